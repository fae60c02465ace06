"""JSON of people: a key that is given twice is refused, where other readers quietly take the last.

Of ``{"subject": "ann", "subject": {"not": "ann"}}`` one reader would remove Ann, and another all the rest.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from schemas.errors import InvalidRequest

_TOKEN = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?|[{}\[\]]', re.DOTALL)
"""Strings, with a colon behind those that are keys, and brackets; all else of JSON tells nothing of its keys."""

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
    value = json.loads(text if isinstance(text, str) else text.decode())
    check_keys(text)
    return value


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
    opened: list[_Open] = []
    for token in _TOKEN.finditer(text.encode() if isinstance(text, str) else text):
        match token[0][0:1]:
            case b"{" | b"[":
                if opened and not isinstance(opened[-1].at, str):
                    opened[-1].at = -1 if opened[-1].at is None else opened[-1].at
                    opened[-1].at += 1
                opened.append(_Open())
            case b"}" | b"]":
                opened.pop()
            case _ if token[2] is not None:
                key = json.loads(b'"%b"' % token[1])
                if key in opened[-1].keys:
                    place = ".".join(str(each.at) for each in (*opened[:-1], _Open(at=key)))
                    raise InvalidRequest(f"{place}: this key is given twice: send it once"[:400])
                opened[-1].keys.add(key)
                opened[-1].at = key
