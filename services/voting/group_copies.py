"""Group neighbours that are copies of one content: they share one rank and one vote.

A content has the rank of its nearest copy, so k neighbours are k contents. Each of its n copies has 1 / n of the weight
of a single image at that rank, so together they weigh as much as one neighbour, divided among their labels. Copies are
equally near, up to rounding; a copy that is further away than the first copy of the k-th content does not vote. Ties
are broken by image id.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.voting.brute_force_neighbours import MISSING

Integers = NDArray[np.int64]


class Grouped(Protocol):
    """A neighbour that may share its vote."""

    @property
    def similarity(self) -> float:
        """Cosine similarity to the query, -1 to 1."""

    @property
    def group(self) -> Hashable:
        """Equal for neighbours that share a vote."""


N = TypeVar("N", bound=Grouped)


def first_groups(neighbours: Sequence[N], k: int) -> tuple[list[N], bool]:
    """The neighbours that vote: those of the first k groups, if they are as near as the first of the k-th group.

    Args:
        neighbours: the nearest first.
        k: the number of groups, at least 1.

    Returns:
        the neighbours that vote, in the same order; whether they are of k groups.
    """
    nearest = neighbours[:k]
    groups: set[Hashable] = {each.group for each in nearest}
    if len(groups) == k:  # the usual case
        copies = (each for each in neighbours[k:] if each.similarity >= nearest[-1].similarity and each.group in groups)
        return [*nearest, *copies], True
    first: dict[Hashable, float] = {}
    for each in neighbours:
        first.setdefault(each.group, each.similarity)
        if len(first) == k:
            return [one for one in neighbours if one.group in first and one.similarity >= each.similarity], True
    return list(neighbours), False


def into_groups(neighbours: Sequence[N]) -> list[list[N]]:
    """Neighbours by group: the nearest group first, and the nearest of each group first."""
    groups: dict[Hashable, list[N]] = {}
    for each in neighbours:
        groups.setdefault(each.group, []).append(each)
    return list(groups.values())


@dataclass(frozen=True)
class VotingOrder:
    """The neighbours [n, w] of n queries in the order in which they vote, group by group.

    Attributes:
        order: int64 [n, w], columns of the neighbours; those that do not vote come last.
        ranks: int64 [n, w], in that order; `MISSING` for a neighbour that does not vote.
        copies: int64 [n, w], in that order: the number of neighbours that share the vote, 1 or more.
    """

    order: Integers
    ranks: Integers
    copies: Integers


def voting_order(groups: Integers, similarities: NDArray[np.floating], k: int) -> VotingOrder:
    """`first_groups` and `into_groups` for the neighbours of many queries at once.

    Args:
        groups: int64 [n, w], the group of each neighbour, 0 or more; `MISSING` where there is no neighbour.
        similarities: [n, w], the nearest first.
        k: the number of groups that vote, at least 1.
    """
    first = first_equal_column(groups)
    leads = (first == np.arange(groups.shape[1])) & (groups != MISSING)
    ranks = np.take_along_axis(np.cumsum(leads, axis=1) - 1, first, 1)
    last = np.where(leads & (ranks == k - 1), similarities, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    votes = (groups != MISSING) & (ranks < k) & (similarities >= last)
    order = np.argsort(np.where(votes, ranks, groups.shape[1]), axis=1, kind="stable")
    found = np.where(np.take_along_axis(votes, order, 1), np.take_along_axis(ranks, order, 1), MISSING)
    return VotingOrder(order, found, _count_equal(found))


def first_equal_column(values: Integers) -> Integers:
    """For each value of int64 [n, w], the first column of its row with an equal value, int64 [n, w]."""
    order = np.argsort(values, axis=1, kind="stable")
    in_order = np.take_along_axis(values, order, 1)
    starts = np.zeros(values.shape, np.int64)
    starts[:, 1:] = np.where(in_order[:, 1:] != in_order[:, :-1], np.arange(1, values.shape[1]), 0)
    first = np.empty_like(order)
    np.put_along_axis(first, order, np.take_along_axis(order, np.maximum.accumulate(starts, axis=1), 1), 1)
    return first


def _count_equal(ranks: Integers) -> Integers:
    """How often each rank occurs in its row, int64 [n, w]; 1 for `MISSING`."""
    present = ranks != MISSING
    index = np.arange(len(ranks))[:, None] * ranks.shape[1] + ranks
    counts = np.bincount(index[present], minlength=ranks.size)
    return np.where(present, counts[np.where(present, index, 0)], 1)
