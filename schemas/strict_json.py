"""Parse JSON, and refuse duplicate keys in an object, of which other parsers silently take the last.

With ``{"subject": "ann", "subject": {"not": "ann"}}`` one parser would remove Ann, and another everyone else.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.fault import Fault, json_pointer

_TOKEN = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?|[{}\[\]]', re.DOTALL)
"""Strings, with a colon after keys, and brackets; other tokens do not matter for finding keys."""

MAX_PATH = 300
"""The most characters of a path in a message, as keys may have any length."""
REPEATED, TWICE = "repeated_key", "this key is given twice: send it once"
Model = TypeVar("Model", bound=BaseModel)


@dataclass
class _Open:
    """An object or list that is not closed yet: its keys so far, and the current key or index."""

    keys: set[str] = field(default_factory=set)
    at: str | int | None = None


def read_json(text: str | bytes) -> Any:
    """Parse a JSON text in UTF-8.

    Raises:
        ValueError: the text is not JSON, or not in UTF-8.
        InvalidRequest: an object has a duplicate key.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except _DuplicateKeyError:
        raise _duplicate_key(text) from None


def parse_json(model: type[Model], text: str | bytes) -> Model:
    """Parse a JSON text into a model.

    Raises:
        pydantic.ValidationError: the text is not JSON, or does not fit the model.
        InvalidRequest: an object has a duplicate key.
    """
    parsed = model.model_validate_json(text)
    check_keys(text)
    return parsed


def check_keys(text: str | bytes) -> None:
    """Refuse duplicate keys in `text`, which must be valid JSON.

    Raises:
        InvalidRequest: an object has a duplicate key; the message names its path.
    """
    text = text if isinstance(text, str) else text.decode(errors="replace")
    try:
        json.loads(text, object_pairs_hook=_check_pairs, parse_int=len)
    except _DuplicateKeyError:
        raise _duplicate_key(text) from None


class _DuplicateKeyError(Exception):
    """An object has a duplicate key."""


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKeyError
    return found


def _check_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    _without_duplicates(pairs)


def _duplicate_key(text: str) -> InvalidRequest:
    """The error for a text with a duplicate key: parses the text again, more slowly, to find its path."""
    stack: list[_Open] = []
    for token in _TOKEN.finditer(text):
        match token[0][0]:
            case "{" | "[":
                if stack and not isinstance(stack[-1].at, str):
                    stack[-1].at = -1 if stack[-1].at is None else stack[-1].at
                    stack[-1].at += 1
                stack.append(_Open())
            case "}" | "]":
                stack.pop()
            case _ if token[2] is not None:
                key = json.loads(f'"{token[1]}"', strict=False)
                if key in stack[-1].keys:
                    path = [each.at for each in stack[:-1] if each.at is not None]
                    fault = Fault(pointer=json_pointer([*path, key])[:MAX_PATH], code=REPEATED, detail=TWICE)
                    error = InvalidRequest(f"{fault.place}: {TWICE}")
                    error.errors = [fault]
                    return error
                stack[-1].keys.add(key)
                stack[-1].at = key
    raise AssertionError("there is a duplicate key")
