"""What a filter names: a removal takes what was asked with a filter that names the same."""

import json
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

from visual_memory.schemas.filter import Filter, Not, Range

IGNORED_FIELDS = {"state"}
"""Fields whose values are the same for everybody."""


def named_values(condition: Filter) -> set[str]:
    """What a filter names, in whichever of its conditions, as `value_name` spells it."""
    return {value_name(field, value) for field, value in field_values(condition)}


def may_cover_text(condition: Filter, text: str) -> bool:
    """Whether what nobody can read may be of what a filter covers: it holds a value that is named.

    One that says only whom it does not mean covers it where none of these is in it; a range names nothing.
    """
    if not condition:
        return True
    text, positive, negative = _folded(text), set[str](), set[str]()
    for asked in condition.root.values():
        inner = asked.not_ if isinstance(asked, Not) else asked
        if not isinstance(inner, Range):
            named = {
                _folded(str(each))
                for each in (inner if isinstance(inner, list) else [inner])
                if not isinstance(each, bool)
            }
            (negative if isinstance(asked, Not) else positive).update(named)
    if positive:
        return any(each in text for each in positive)
    return bool(negative) and not any(each in text for each in negative)


def _folded(text: str) -> str:
    return normalize("NFC", normalize("NFC", text).casefold())


def field_values(condition: Filter) -> Iterator[tuple[str, Any]]:
    """Each field and value of a filter; the bounds of ranges too."""
    for field, asked in condition.root.items():
        if field not in IGNORED_FIELDS:
            inner = asked.not_ if isinstance(asked, Not) else asked
            held = (
                inner.bounds().values() if isinstance(inner, Range) else inner if isinstance(inner, list) else [inner]
            )
            for value in held:
                yield field, value


def value_name(field: str, value: Any) -> str:
    """A value as it is compared: text in whichever field, in NFC; anything else in its own field alone."""
    return normalize("NFC", value) if isinstance(value, str) else f"{field}={json.dumps(value)}"
