"""JSON of people: a key that is given twice is refused, where other readers quietly take the last.

Of ``{"subject": "ann", "subject": {"not": "ann"}}`` one reader would remove Ann, and another all the rest.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from visual_memory.schemas.errors import InvalidRequest

_TOKEN = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?|[{}\[\]]', re.DOTALL)
"""Strings, with a colon behind those that are keys, and brackets; all else of JSON tells nothing of its keys."""

MOST_SAID = 300
"""Characters of a place: a key that was sent could be of any length."""
Model = TypeVar("Model", bound=BaseModel)


@dataclass
class _Open:
    """An object or list that is read: its keys so far, and where in it the reader is."""

    keys: set[str] = field(default_factory=set)
    at: str | int | None = None


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: it is not JSON, or not in UTF-8.
        InvalidRequest: a key is given twice in one object.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _GivenTwiceError:
        raise _named(text) from None


def parse_json(model: type[Model], text: str | bytes) -> Model:
    """A model of a JSON text.

    Raises:
        pydantic.ValidationError: it is not JSON, or not of the model.
        InvalidRequest: a key is given twice in one object.
    """
    parsed = model.model_validate_json(text)
    check_keys(text)
    return parsed


def check_keys(text: str | bytes) -> None:
    """Refuse a key that is given twice in one object; `text` is known to be JSON.

    Raises:
        InvalidRequest: there is one; the message names its place.
    """
    text = text if isinstance(text, str) else text.decode(errors="replace")
    try:
        json.loads(text, object_pairs_hook=_leave_out, parse_int=len)
    except _GivenTwiceError:
        raise _named(text) from None


class _GivenTwiceError(Exception):
    """A key is."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _GivenTwiceError
    return found


def _leave_out(pairs: Sequence[tuple[str, Any]]) -> None:
    _once(pairs)


def _named(text: str) -> InvalidRequest:
    """The error of a text in which a key is given twice: read once more, and slowly, for its place."""
    opened: list[_Open] = []
    for token in _TOKEN.finditer(text):
        match token[0][0]:
            case "{" | "[":
                if opened and not isinstance(opened[-1].at, str):
                    opened[-1].at = -1 if opened[-1].at is None else opened[-1].at
                    opened[-1].at += 1
                opened.append(_Open())
            case "}" | "]":
                opened.pop()
            case _ if token[2] is not None:
                key = json.loads(f'"{token[1]}"', strict=False)
                if key in opened[-1].keys:
                    place = ".".join(str(each.at) for each in (*opened[:-1], _Open(at=key)))
                    shown = place[:MOST_SAID].encode(errors="backslashreplace").decode()  # half a pair of surrogates
                    return InvalidRequest(f"{shown}: this key is given twice: send it once")
                opened[-1].keys.add(key)
                opened[-1].at = key
    raise AssertionError("a key was given twice")
