"""A source of the review queue: it yields its entries in the order of the queue, from any position on.

The queue is sorted by score, the highest first. Entries with equal scores come by source, and within one source in its
own order. Every source reads in batches, as its entries are asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from visual_memory.schemas.review import ReviewItem, ReviewKind

BATCH = 100
"""Entries that a source reads at once."""


class Position(NamedTuple):
    """The place of an entry in the queue: the score, the number of its source, and its place in that."""

    score: float
    source: int
    key: str


class Entry(NamedTuple):
    """An entry of the queue, with its place."""

    position: Position
    item: ReviewItem


class Total(NamedTuple):
    """A number of entries, and whether it is an estimate."""

    entries: int
    is_estimate: bool = False


class Source(ABC):
    """A source of the queue.

    Args:
        number: among the sources of the queue.
    """

    kind: ReviewKind

    def __init__(self, number: int) -> None:
        self.number = number

    @abstractmethod
    def after(self, tenant: str, position: Position | None, *, reviewed: bool) -> Iterator[Entry]:
        """The entries after a position, in the order of the queue.

        Args:
            tenant: whose queue.
            position: None: from the first entry on.
            reviewed: whether the reviewed ones are wanted; without it, a source may leave them out.

        Raises:
            InvalidCursor: the position is none of the source.
        """

    @abstractmethod
    def total(self, tenant: str, *, reviewed: bool) -> Total:
        """The number of entries, without the reviewed ones unless they are wanted."""

    @abstractmethod
    def named(self, tenant: str, ids: Sequence[str]) -> Iterator[ReviewItem]:
        """Those items of some ids, at most some hundred, that the source has, reviewed or not."""

    def key_after(self, score: float, position: Position | None) -> tuple[bool, str | None]:
        """Where entries that all have one score continue.

        Returns:
            whether any come after the position, and the key of the last one before them; None: all come after it.
        """
        if position is None:
            return True, None
        if (position.score, position.source) == (score, self.number):
            return True, position.key
        return (-score, self.number) > (-position.score, position.source), None


def order(position: Position) -> tuple[float, int, str]:
    """By what the positions of the queue are sorted."""
    return -position.score, position.source, position.key


def is_after(one: Position, other: Position) -> bool:
    """Whether a position comes after another one; of one source, where the keys sort as the entries do."""
    return order(one) > order(other)
