"""Write a filter so that an engine reads a page in bounded time, however the points that meet it are spread.

Qdrant reads a page in one of two ways. It walks through the order and checks each point, or it collects all points of
the filter's rarest condition, checks and sorts them. It collects if that is estimated to look at fewer points, as if
those that meet the filter were spread evenly. But images are imported by class, source and day: it may walk past a
million before it finds the first. So where the rarest condition has few points, that is repeated, which lowers the
estimate until the engine collects.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, PointFilter

SORTED_AT_MOST, PAGED_AT_MOST = 50_000, 100_000
"""Points that are collected at most, to be sorted by a moment or paged by id: 20 to 40 ms on 2 shared cores."""
WALKED = 5
"""Points that are walked past in the time in which one is collected."""
COMPARED = 8
"""Conditions among which the rarest is looked for."""

Estimate = Callable[[PointFilter], int]


def bounded_by_moment(where: PointFilter, limit: int, estimate: Estimate) -> PointFilter:
    """The same filter, to read points in the order of a moment.

    Args:
        where: the filter.
        limit: number of points to read.
        estimate: see `Engine.estimate`.
    """
    return _bounded(where, limit, estimate, SORTED_AT_MOST, conditions=1)


def bounded_by_id(where: PointFilter, limit: int, estimate: Estimate) -> PointFilter:
    """The same filter, to read points in the order of their ids, over which each single condition is spread evenly.

    Args:
        where: the filter.
        limit: number of points to read.
        estimate: see `Engine.estimate`.
    """
    return _bounded(where, limit, estimate, PAGED_AT_MOST, conditions=2)


def _bounded(where: PointFilter, limit: int, estimate: Estimate, at_most: int, conditions: int) -> PointFilter:
    """Repeat the rarest condition, if there are as many conditions and the engine would else walk too far."""
    everything, met = estimate(EVERY_POINT), estimate(where)
    most = min(at_most, everything // WALKED)
    if not 0 < met <= most:
        return where
    numbers = ((estimate(PointFilter(clauses=(each,))), each) for each in _selecting(where))
    rarest_first = sorted(((few, each) for few, each in numbers if few < everything), key=lambda pair: pair[0])
    if len(rarest_first) < conditions or not 0 < rarest_first[0][0] <= most:
        return where
    few, rarest = rarest_first[0]
    times = math.floor(math.log(few * met / (limit * everything)) / math.log(everything / few)) + 1
    return replace(where, clauses=(*where.clauses, *[rarest] * max(0, times)))


def _selecting(where: PointFilter) -> list[Clause]:
    """The conditions that select points, which an engine can collect; not those that only leave some out."""
    tenant = [] if where.tenant is None else [Clause("tenant", FieldType.KEYWORD, (where.tenant,))]
    own = [each for each in where.clauses if each.negated != bool(each.values or each.bounds)]
    return [*tenant, *own][:COMPARED]
