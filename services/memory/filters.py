"""The one place where engine filters are built: a tenant, and the conditions of a checked filter."""

import math
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from qdrant_client import models

from schemas.errors import InvalidFilter
from schemas.filter import Clause, FieldType
from schemas.image import State

SAFE_INTEGER = 2**53 - 1
"""Engines compare ranges as float64: beyond it, neighbouring whole numbers are one and the same to them."""
SLACK = 2
"""Engines read a stored number back up to two units in the last place off: as far away, it counts as the same.

Numbers of at most 15 significant digits are further apart, so for them a filter is exact.
"""


def within(tenant: str, clauses: Iterable[Clause] = (), vector: str | None = None) -> models.Filter:
    """Every point of a tenant that meets every clause.

    Args:
        tenant: the only one whose points are covered.
        clauses: as `schemas.filter.matches` understands them; their fields may also be ``picture``,
            ``removal`` and ``doubt``.
        vector: only points that have the vector of this name.

    Raises:
        InvalidFilter: a range bound on a whole number is beyond +-(2**53 - 1), where engines cannot tell numbers apart.
    """
    must: list[models.Condition] = [_equal("tenant", tenant)]
    must_not: list[models.Condition] = []
    for clause in clauses:
        (must_not if clause.negated else must).append(_condition(clause))
    if vector is not None:
        must.append(models.HasVectorCondition(has_vector=vector))
    return models.Filter(must=must, must_not=must_not)


def waiting_of_every_tenant(before: datetime) -> models.Filter:
    """Every point that waits, neither accepted nor begun since a moment, whosever it is: for the sweeper alone."""
    accepted = models.FieldCondition(key="accepted_at", range=models.DatetimeRange(lt=before))
    begun = models.FieldCondition(key="begun_at", range=models.DatetimeRange(gte=before))
    return models.Filter(must=[_equal("state", State.WAITING.value), accepted], must_not=[begun])


def expired_of_every_tenant(moment: datetime) -> models.Filter:
    """Every point that was to be kept until a moment at most, whosever it is: for retention alone."""
    return models.Filter(must=[models.FieldCondition(key="expires_at", range=models.DatetimeRange(lte=moment))])


def of_every_tenant() -> models.Filter:
    """Every point, whosever it is: to find out who has any."""
    return models.Filter()


def _condition(clause: Clause) -> models.Condition:
    key = "label_paths" if clause.field == "labels" else clause.field
    if not clause.values:
        return _range(key, clause.kind, clause.bounds)
    match clause.kind:
        case FieldType.KEYWORD | FieldType.INTEGER:
            values = cast(list[str] | list[int], list(clause.values))
            return models.FieldCondition(key=key, match=models.MatchAny(any=values))
        case FieldType.BOOLEAN:
            return _one_of([_equal(key, cast(bool, value)) for value in clause.values])
        case FieldType.FLOAT | FieldType.DATETIME:  # engines match neither of them by value
            return _one_of([_range(key, clause.kind, {"gte": value, "lte": value}) for value in clause.values])


def _equal(key: str, value: str | bool) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _one_of(conditions: list[models.Condition] | list[models.FieldCondition]) -> models.Filter:
    return models.Filter(should=cast(list[models.Condition], conditions))


def _range(key: str, kind: FieldType, bounds: Mapping[str, Any]) -> models.FieldCondition:
    if not bounds:
        raise ValueError(f"a clause on {key} needs values or bounds")
    if kind is FieldType.DATETIME:
        return models.FieldCondition(key=key, range=models.DatetimeRange(**bounds))
    if kind is FieldType.INTEGER and any(abs(bound) > SAFE_INTEGER for bound in bounds.values()):
        raise InvalidFilter(f"filter: a range on {key} takes whole numbers up to 2**53 - 1; name the values instead")
    slack = SLACK if kind is FieldType.FLOAT else 0
    return models.FieldCondition(
        key=key, range=models.Range(**{name: _moved(name, bound, slack) for name, bound in bounds.items()})
    )


def _moved(name: str, bound: float, slack: int) -> float:
    """A bound so that all that counts as equal to it is within (gte, lte) or without (gt, lt)."""
    distance = slack * math.ulp(bound)
    moved = bound + (distance if name in {"gt", "lte"} else -distance)
    return max(-sys.float_info.max, min(sys.float_info.max, moved))
