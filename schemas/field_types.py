"""The types of an image's fields and of its metadata: check values against them."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    StrictBool,
    TypeAdapter,
    ValidationError,
)

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.fault import Fault, json_pointer
from visual_memory.schemas.fault_sentences import WRONG_TYPE
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.text_rules import (
    MetadataInteger,
    MetadataValue,
)


class FieldType(StrEnum):
    """The type of a field's values; it decides which conditions are valid and how the field is indexed."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATETIME = "datetime"


FIELDS: Mapping[str, FieldType] = {
    "image_id": FieldType.KEYWORD,
    "labels": FieldType.KEYWORD,
    "state": FieldType.KEYWORD,
    "file_name": FieldType.KEYWORD,
    "source": FieldType.KEYWORD,
    "subject": FieldType.KEYWORD,
    "content_hash": FieldType.KEYWORD,
    "captured_at": FieldType.DATETIME,
    "accepted_at": FieldType.DATETIME,
    "expires_at": FieldType.DATETIME,
}

Value = str | int | float | bool | datetime


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("not a number")  # noqa: TRY004 - pydantic wants a ValueError
    return value


TYPES: Mapping[FieldType, tuple[TypeAdapter[Any], str]] = {
    FieldType.KEYWORD: (TypeAdapter(Annotated[str, Field(strict=True)]), "text"),
    FieldType.INTEGER: (TypeAdapter(MetadataInteger), "a whole number of 64 bits"),
    FieldType.FLOAT: (TypeAdapter(Annotated[FiniteFloat, BeforeValidator(_number)]), "a finite number"),
    FieldType.BOOLEAN: (TypeAdapter(StrictBool), "true or false"),
    FieldType.DATETIME: (TypeAdapter(Moment), "a moment with its time zone, such as 2026-01-31T12:00:00Z"),
}


def convert_value(field: str, kind: FieldType, value: object) -> Value:
    """Convert a value to its field's type.

    Raises:
        ValueError: the value is of another type, or no state where `field` is ``state``.
    """
    adapter, expected = TYPES[kind]
    if field == "state" and value not in set(State):
        raise ValueError(f"there is no state {value!r}; the states are {', '.join(State)}")
    try:
        return cast("Value", adapter.validate_python(value))
    except ValidationError:
        raise ValueError(f"{field} takes {expected}, not {value!r}") from None


def convert_metadata(
    metadata: Mapping[str, MetadataValue], declared: Mapping[str, FieldType]
) -> dict[str, MetadataValue]:
    """Convert the declared fields of metadata to their types; filters cannot use undeclared ones.

    Raises:
        InvalidRequest: values are not of their fields' types; it lists each, with a pointer within the image's fields.
    """
    converted, faults = dict(metadata), list[Fault]()
    for name in sorted(metadata.keys() & declared.keys()):
        try:
            value = convert_value(f"metadata.{name}", declared[name], metadata[name])
        except ValueError as error:
            faults.append(Fault(pointer=json_pointer(["metadata", name]), code=WRONG_TYPE, detail=str(error)))
        else:
            converted[name] = value.isoformat() if isinstance(value, datetime) else value
    if faults:
        refusal = InvalidRequest("; ".join(fault.detail for fault in faults))
        refusal.errors = faults
        raise refusal
    return converted
