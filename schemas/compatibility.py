"""How clients and services of different versions understand each other's answers."""

from enum import StrEnum
from typing import Any, Self

from pydantic import GetCoreSchemaHandler, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

VERSION_HEADER = "Visual-Memory-Version"
"""The header of every answer that names the version of the service."""
ANSWER = "answer"
"""Marks the context in which a client validates answers; requests and records are validated without."""


class OpenEnum(StrEnum):
    """A set of words that later versions extend.

    Requests and records with another word are refused. In an answer it is kept as it is: a member of the enum whose
    value is the text, equal to the text, and not listed among the members.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as an enum, and then as the context says."""
        return core_schema.with_info_wrap_validator_function(cls._read, handler(source))

    @classmethod
    def _read(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Self:
        if isinstance(value, str) and value not in cls._value2member_map_ and ANSWER in (info.context or {}):
            return cls._of_later_version(value)
        known: Self = validate(value)
        return known

    @classmethod
    def _of_later_version(cls, value: str) -> Self:
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member
