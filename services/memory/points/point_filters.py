"""The one place where filters of points are built, and what they mean in the terms that an engine offers."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, cast

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import StoredImage
from visual_memory.services.vector_engines.engine_contract import PointFilter

SLACK = 2
"""Engines read a stored number back up to two units in the last place off: as far away, it counts as the same.

Numbers of at most 15 significant digits are further apart, so for them a filter is exact.
"""


UNMARKED = Clause("removal", FieldType.KEYWORD, negated=True)
"""In no removal's hands."""


def within(tenant: str, clauses: Iterable[Clause] = (), vector: str | None = None) -> PointFilter:
    """Every point of a tenant that meets every clause.

    Args:
        tenant: the only one whose points are covered.
        clauses: as `schemas.filter.matches` understands them; their fields may also be ``picture``,
            ``removal`` and ``doubt``.
        vector: only points that have the vector of this name.
    """
    return PointFilter(tenant, tuple(clauses), vector)


def same_pictures(
    images: Iterable[StoredImage], clauses: Sequence[Clause] = (), vector: str | None = None
) -> PointFilter:
    """The images with the very pictures that they were read with: never what was put later under the same id."""
    tenants = {image.tenant for image in images}
    if len(tenants) != 1:
        raise ValueError(f"images of one tenant were expected, not of {sorted(tenants)}")
    pictures = Clause("picture", FieldType.KEYWORD, tuple(image.picture for image in images))
    return within(tenants.pop(), [pictures, *clauses], vector)


def unamended(images: Sequence[StoredImage]) -> PointFilter:
    """The images just as callers left them when they were read: same pictures, same revision, in no removal's hands."""
    revisions = {image.revision for image in images}
    if len(revisions) != 1:
        raise ValueError(f"images of one revision were expected, not of {sorted(revisions)}")
    revision = revisions.pop()
    read = Clause("revision", FieldType.INTEGER, (revision,) if revision else (), negated=not revision)
    return same_pictures(images, [read, UNMARKED])


def expired_of_every_tenant(moment: datetime) -> PointFilter:
    """Every point that was to be kept until a moment at most, whosever it is: for retention alone."""
    return PointFilter(clauses=(Clause("expires_at", FieldType.DATETIME, bounds={"lte": moment}),))


class FilterTerms(Protocol):
    """How an engine writes a filter and its conditions."""

    def all_of(self, must: list[Any], must_not: list[Any]) -> Any:
        """Every condition of the first list is met, and none of the second."""

    def one_of(self, conditions: list[Any]) -> Any:
        """One condition at least is met."""

    def equal(self, field: str, value: str | bool) -> Any:
        """The field has the value."""

    def equal_any(self, field: str, values: list[str] | list[int]) -> Any:
        """The field has one of the values."""

    def numbers(self, field: str, bounds: Mapping[str, float]) -> Any:
        """The field's number lies within bounds, named gt, gte, lt, lte."""

    def moments(self, field: str, bounds: Mapping[str, str]) -> Any:
        """The field's moment lies within bounds, written as in ISO 8601."""

    def is_empty(self, field: str) -> Any:
        """The field has no value."""

    def has_vector(self, name: str) -> Any:
        """The point has the vector of this name."""

    def has_id(self, ids: tuple[str, ...]) -> Any:
        """The point is one of these."""


def translated(where: PointFilter, terms: FilterTerms) -> Any:
    """A filter in the terms of an engine."""
    must: list[Any] = [] if where.tenant is None else [terms.equal("tenant", where.tenant)]
    must_not: list[Any] = []
    for clause in where.clauses:
        absent = not clause.values and not clause.bounds  # the condition is then the contrary of the clause
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
        case FieldType.FLOAT | FieldType.DATETIME:  # engines match neither of them by value
            return terms.one_of(
                [_range(field, clause.kind, {"gte": value, "lte": value}, terms) for value in clause.values]
            )


def _range(field: str, kind: FieldType, bounds: Mapping[str, Any], terms: FilterTerms) -> Any:
    if kind is FieldType.DATETIME:
        return terms.moments(field, {name: moment.isoformat() for name, moment in bounds.items()})
    slack = SLACK if kind is FieldType.FLOAT else 0
    return terms.numbers(field, {name: _moved(name, bound, slack) for name, bound in bounds.items()})


def _moved(name: str, bound: float, slack: int) -> float:
    """A bound so that all that counts as equal to it is within (gte, lte) or without (gt, lt)."""
    distance = slack * math.ulp(bound)
    moved = bound + (distance if name in {"gt", "lte"} else -distance)
    return max(-sys.float_info.max, min(sys.float_info.max, moved))
