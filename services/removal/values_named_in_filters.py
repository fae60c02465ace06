"""The values that a filter names: a removal deletes what was requested with a filter that names the same values."""

import json
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

from visual_memory.schemas.filter import Filter, Not, Range

IGNORED_FIELDS = {"state"}
"""Fields whose values identify nothing."""


def named_values(condition: Filter) -> set[str]:
    """The values that any condition of a filter names, as `value_name` spells them."""
    return {value_name(field, value) for field, value in field_values(condition)}


def may_cover_text(condition: Filter, text: str) -> bool:
    """Whether text that cannot be parsed may belong to what a filter covers: it contains a value that the filter names.

    A filter with only negative conditions covers text that contains none of their values. A range names no value.
    """
    if not condition:
        return True
    text, positive, negative = _fold_case(text), set[str](), set[str]()
    for clause in condition.root.values():
        inner = clause.not_ if isinstance(clause, Not) else clause
        if not isinstance(inner, Range):
            named = {
                _fold_case(str(each))
                for each in (inner if isinstance(inner, list) else [inner])
                if not isinstance(each, bool)
            }
            (negative if isinstance(clause, Not) else positive).update(named)
    if positive:
        return any(each in text for each in positive)
    return bool(negative) and not any(each in text for each in negative)


def _fold_case(text: str) -> str:
    return normalize("NFC", normalize("NFC", text).casefold())


def field_values(condition: Filter) -> Iterator[tuple[str, Any]]:
    """Each field and value of a filter, including the bounds of ranges."""
    for field, clause in condition.root.items():
        if field not in IGNORED_FIELDS:
            inner = clause.not_ if isinstance(clause, Not) else clause
            values = (
                inner.bounds().values() if isinstance(inner, Range) else inner if isinstance(inner, list) else [inner]
            )
            for value in values:
                yield field, value


def value_name(field: str, value: Any) -> str:
    """The spelling by which values are compared: text in NFC, equal across fields; other values with their field."""
    return normalize("NFC", value) if isinstance(value, str) else f"{field}={json.dumps(value)}"
