"""Translate a point filter into the filter of a vector engine."""

import math
import sys
from collections.abc import Mapping
from typing import Any, Protocol, cast

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.vector_engines.engine_contract import PointFilter

SLACK = 2
"""Units in the last place within which two floats count as equal: engines read stored numbers back with that error.

Numbers of at most 15 significant digits differ by more, so filters on them are exact.
"""


class FilterTerms(Protocol):
    """Builds the filters and conditions of one engine."""

    def all_of(self, must: list[Any], must_not: list[Any]) -> Any:
        """Every condition of the first list is met, and none of the second."""

    def one_of(self, conditions: list[Any]) -> Any:
        """At least one condition is met."""

    def equal(self, field: str, value: str | bool) -> Any:
        """The field has the value."""

    def equal_any(self, field: str, values: list[str] | list[int]) -> Any:
        """The field has one of the values."""

    def numbers(self, field: str, bounds: Mapping[str, float]) -> Any:
        """The number in the field is within the bounds, named gt, gte, lt, lte."""

    def moments(self, field: str, bounds: Mapping[str, str]) -> Any:
        """The moment in the field is within the bounds, written in ISO 8601."""

    def is_empty(self, field: str) -> Any:
        """The field has no value."""

    def has_vector(self, name: str) -> Any:
        """The point has the vector of this name."""

    def has_id(self, ids: tuple[str, ...]) -> Any:
        """The point is one of these."""


def translate_filter(where: PointFilter, terms: FilterTerms) -> Any:
    """Translate a filter into the terms of an engine."""
    must: list[Any] = [] if where.tenant is None else [terms.equal("tenant", where.tenant)]
    must_not: list[Any] = []
    for clause in where.clauses:
        absent = not clause.values and not clause.bounds  # the condition is then the opposite of the clause
        (must_not if clause.negated != absent else must).append(_condition(clause, terms))
    if where.vector is not None:
        must.append(terms.has_vector(where.vector))
    if where.lacks is not None:
        must_not.append(terms.has_vector(where.lacks))
    if where.ids is not None:
        must.append(terms.has_id(where.ids))
    return terms.all_of(must, must_not)


def _condition(clause: Clause, terms: FilterTerms) -> Any:
    field = "label_paths" if clause.field == "labels" else clause.field
    if not clause.values and not clause.bounds:
        return terms.is_empty(field)
    if not clause.values:
        return _range(field, clause.kind, clause.bounds, terms)
    match clause.kind:
        case FieldType.KEYWORD | FieldType.INTEGER:
            return terms.equal_any(field, cast(list[str] | list[int], list(clause.values)))
        case FieldType.BOOLEAN:
            return terms.one_of([terms.equal(field, cast(bool, value)) for value in clause.values])
        case FieldType.FLOAT | FieldType.DATETIME:  # engines match neither by value
            return terms.one_of(
                [_range(field, clause.kind, {"gte": value, "lte": value}, terms) for value in clause.values]
            )


def _range(field: str, kind: FieldType, bounds: Mapping[str, Any], terms: FilterTerms) -> Any:
    if kind is FieldType.DATETIME:
        return terms.moments(field, {name: moment.isoformat() for name, moment in bounds.items()})
    slack = SLACK if kind is FieldType.FLOAT else 0
    return terms.numbers(field, {name: _moved(name, bound, slack) for name, bound in bounds.items()})


def _moved(name: str, bound: float, slack: int) -> float:
    """Move a bound so that all numbers that count as equal to it are within (gte, lte) or outside (gt, lt)."""
    distance = slack * math.ulp(bound)
    moved = bound + (distance if name in {"gt", "lte"} else -distance)
    return max(-sys.float_info.max, min(sys.float_info.max, moved))
