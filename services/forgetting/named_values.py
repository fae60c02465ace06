"""What a filter names: a removal takes what was asked with a filter that names the same."""

import json
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

from schemas.filter import Filter, Not, Range

UNNAMED = {"state"}
"""Fields whose values are the same for everybody."""


def names_in(condition: Filter) -> set[str]:
    """What a filter names, in whichever of its conditions, as `name_of` spells it."""
    return {name_of(field, value) for field, value in values_of(condition)}


def values_of(condition: Filter) -> Iterator[tuple[str, Any]]:
    """Each field and value of a filter; the bounds of ranges too."""
    for field, asked in condition.root.items():
        if field not in UNNAMED:
            inner = asked.not_ if isinstance(asked, Not) else asked
            held = (
                inner.bounds().values() if isinstance(inner, Range) else inner if isinstance(inner, list) else [inner]
            )
            for value in held:
                yield field, value


def name_of(field: str, value: Any) -> str:
    """A value as it is compared: text in whichever field, in NFC; anything else in its own field alone."""
    return normalize("NFC", value) if isinstance(value, str) else f"{field}={json.dumps(value)}"
