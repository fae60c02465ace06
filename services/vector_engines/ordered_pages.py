"""Page through points in the order of a moment, over an engine that either sorts by a field or pages by id, not both.

An engine reads in the order of a field from a value on, without a cursor among equal values; thousands of images may
have the same moment. So points that share a moment are read by id, and the others in the order of the field.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple, Protocol

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.vector_engines.engine_contract import Order, Payload, PointFilter, Position
from visual_memory.services.vector_engines.read_plan import bounded_by_id, bounded_by_moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RESOLUTION = timedelta(microseconds=1)
"""Of stored moments and of engines' indexes: between two moments of this distance there is none."""


class Placed(NamedTuple):
    """A point, and its place in an order."""

    moment: datetime | None
    id: str
    payload: Payload


class OrderedReads(Protocol):
    """The two reads of an engine from which pages are composed."""

    def estimate(self, where: PointFilter) -> int:
        """See `Engine.estimate`."""

    def read_by_id(self, where: PointFilter, limit: int, first: str | None) -> list[tuple[str, Payload]]:
        """Ids and payloads by ascending id, from the id `first` on."""

    def read_by_moment(self, where: PointFilter, order: Order, limit: int, first: datetime | None) -> list[Placed]:
        """Points that have the field, ordered by it alone, from the moment `first` on."""


def ordered_page(
    reads: OrderedReads, where: PointFilter, order: Order, limit: int, start: Position | None
) -> tuple[list[Payload], Position | None]:
    """One page of the points that meet a filter; see `Engine.scroll_ordered`."""
    page = list(islice(_from(reads, where, order, limit + 1, start), limit + 1))
    following = page.pop() if len(page) > limit else None
    return [each.payload for each in page], following and Position(following.moment, following.id)


def _from(
    reads: OrderedReads, where: PointFilter, order: Order, wanted: int, start: Position | None
) -> Iterator[Placed]:
    """The points from a position on: at least as many as are wanted, if there are."""
    if start is None:
        yield from _beyond(reads, where, order, wanted, None)
    elif start.moment is not None:
        yield from _at(reads, where, order, wanted, start)
        yield from _beyond(reads, where, order, wanted, start.moment)
    first = "" if start is None or start.moment is not None else start.id
    yield from _at(reads, where, order, wanted, Position(None, first))


def _beyond(
    reads: OrderedReads, where: PointFilter, order: Order, wanted: int, moment: datetime | None
) -> Iterator[Placed]:
    """The points whose moments come after one; None: all that have a moment."""
    bounded = bounded_by_moment(where, wanted + 1, reads.estimate)
    while True:
        first = None if moment is None else _next(moment, order)
        if moment is not None and first is None:
            return
        points = reads.read_by_moment(bounded, order, wanted + 1, first)
        whole = len(points) <= wanted  # else the engine may have left out points with the last moment
        last = None if whole else points[-1].moment
        yield from sorted((each for each in points if each.moment != last), key=lambda each: _rank(each, order))
        if last is None:
            return
        yield from _at(reads, where, order, wanted, Position(last, ""))
        moment = last


def _at(reads: OrderedReads, where: PointFilter, order: Order, wanted: int, position: Position) -> Iterator[Placed]:
    """The points with exactly the moment of a position, from its id on."""
    same = Clause(order.field, FieldType.DATETIME, values=() if position.moment is None else (position.moment,))
    clause = replace(same, negated=position.moment is None)
    narrowed = replace(where, clauses=(*where.clauses, clause))
    bounded = bounded_by_id(narrowed, wanted, reads.estimate)
    for point, payload in reads.read_by_id(bounded, wanted, position.id or None):
        yield Placed(position.moment, point, payload)


def _next(moment: datetime, order: Order) -> datetime | None:
    """The first moment after one, in an order; None if there is none."""
    try:
        return moment - RESOLUTION if order.descending else moment + RESOLUTION
    except OverflowError:
        return None


def _rank(point: Placed, order: Order) -> tuple[timedelta, str]:
    distance = (point.moment or EPOCH) - EPOCH
    return -distance if order.descending else distance, point.id


def moment_of(microseconds: float) -> datetime:
    """The moment of an engine's order value: microseconds since 1970."""
    return EPOCH + timedelta(microseconds=int(microseconds))
