"""Arrays of queries, images and the queries' neighbours, from which all measures are computed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import VoteOptions
from visual_memory.services.voting.batch_votes import (
    Ballots,
    Integers,
    collect_ballots,
    in_labels,
    shares_label,
    winners_by_k,
)
from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.group_copies import voting_order
from visual_memory.services.voting.vote_weights import vote_weights

Vectors = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
IdsAndLabels = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Ids of images and the labels of each."""
SLICE = 8192
"""Queries whose votes are counted at once, so that the memory this takes does not grow with their number."""


@dataclass(frozen=True)
class LabelledVectors:
    """Images with their labels and vectors.

    Attributes:
        ids: n image ids, each once.
        labels: of each image, one or more, each once.
        vectors: float32 [n, d], rows of length 1.
        contents: of each image, a key that copies, which share a vote, have in common; empty if none do.
    """

    ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    vectors: Vectors
    contents: Sequence[str] = ()


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of n queries, nearest first; copies, which share a vote, are adjacent.

    Attributes:
        similarities: float64 [n, k], cosine similarities; -1 where there is no neighbour.
        rows: int64 [n, k], the images' rows in the memory; `MISSING` where there is no neighbour.
        reliability: float64 [n, k], factors of their votes.
        ranks: int64 [n, k], equal for images that share a vote; None: none do.
    """

    similarities: NDArray[np.float64]
    rows: Integers
    reliability: NDArray[np.float64]
    ranks: Integers | None = None

    @classmethod
    def equal(cls, similarities: NDArray[np.floating], rows: Integers) -> Self:
        """Neighbours with equal reliability."""
        return cls(similarities.astype(np.float64), rows, np.ones(rows.shape))

    @property
    def k(self) -> int:
        """The maximum number of votes; images that share a vote count once."""
        return self.rows.shape[1] if self.ranks is None else int(self.ranks.max(initial=MISSING)) + 1

    def of(self, queries: slice) -> "Neighbours":
        """The neighbours of some queries."""
        ranks = None if self.ranks is None else self.ranks[queries]
        return Neighbours(self.similarities[queries], self.rows[queries], self.reliability[queries], ranks)

    def nearest(self, k: int) -> "Neighbours":
        """The nearest k of each query."""
        if self.ranks is None:
            return Neighbours(self.similarities[:, :k], self.rows[:, :k], self.reliability[:, :k])
        votes = (self.ranks != MISSING) & (self.ranks < k)
        columns = slice(int(votes.sum(axis=1).max(initial=0)))  # voting images come first
        similarities, rows = np.where(votes, self.similarities, -1.0), np.where(votes, self.rows, MISSING)
        ranks = np.where(votes, self.ranks, MISSING)
        return Neighbours(similarities[:, columns], rows[:, columns], self.reliability[:, columns], ranks[:, columns])

    def sharing(self, contents: Integers | None, k: int) -> "Neighbours":
        """The nearest k of each query, with one vote for all images of the same content.

        Args:
            contents: int64 [m], of each image of the memory; None: no images share a vote.
            k: how many; images that share a vote count once.
        """
        if contents is None:
            return self.nearest(k)
        groups = np.where(self.rows == MISSING, MISSING, contents[self.rows])
        found = voting_order(groups, self.similarities, k)
        similarities = np.take_along_axis(self.similarities, found.order, 1)
        rows = np.take_along_axis(self.rows, found.order, 1)
        reliability = np.take_along_axis(self.reliability, found.order, 1) / found.copies
        return Neighbours(similarities, rows, reliability, found.ranks).nearest(k)

    def weights(self, options: VoteOptions) -> NDArray[np.float64]:
        """The weight of each neighbour's vote, [n, k]."""
        ranks = None if self.ranks is None else np.maximum(self.ranks, 0)
        return vote_weights(self.similarities, options, ranks) * self.reliability

    def is_first_of_vote(self) -> NDArray[np.bool_]:
        """Whether each [n, k] is a neighbour, and the nearest of those that share its vote."""
        first: NDArray[np.bool_] = self.rows != MISSING
        if self.ranks is not None:
            first[:, 1:] &= self.ranks[:, 1:] != self.ranks[:, :-1]
        return first

    def distances(self) -> NDArray[np.float64]:
        """Cosine distances [n, k]; NaN where there is no neighbour, and for all but the nearest of a shared vote."""
        return np.where(self.is_first_of_vote(), 1 - self.similarities, np.nan)

    def mean_distances(self) -> NDArray[np.float64]:
        """The mean cosine distance [n] to the neighbours: novelty."""
        means: NDArray[np.float64] = np.nanmean(self.distances(), axis=1)
        return means

    def at_each_k(self, by_position: NDArray[T], k: int) -> NDArray[T]:
        """Values after each neighbour, [n, positions], as values after the nearest 1, 2, ... k votes."""
        if self.ranks is None:
            return by_position
        query, position = np.nonzero(self.ranks != MISSING)
        images = np.bincount(query * k + self.ranks[query, position], minlength=len(self.ranks) * k)
        last = np.cumsum(images.reshape(-1, k), axis=1) - 1
        return np.take_along_axis(by_position, np.maximum(last, 0), 1)


class LabelNumbers:
    """Numbers labels in the order of their first occurrence."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def labels(self) -> list[str]:
        """All labels so far, by their number."""
        return list(self._numbers)

    def matrix(self, labels: Iterable[Sequence[str]]) -> Integers:
        """Number labels.

        Args:
            labels: of each of n images.

        Returns:
            int64 [n, l], rows padded with `MISSING`.
        """
        numbered = [[self._numbers.setdefault(label, len(self._numbers)) for label in some] for some in labels]
        matrix = np.full((len(numbered), max(map(len, numbered), default=0)), MISSING)
        for row, some in zip(matrix, numbered, strict=True):
            row[: len(some)] = some
        return matrix


@dataclass(frozen=True)
class NeighbourMatrix:
    """Queries with their neighbours and the labels of both.

    Attributes:
        encoder: whose vectors were compared.
        itself: whether the queries are the images of the memory, of which none is its own neighbour.
        query_ids: n image ids.
        image_ids: m image ids.
        labels: all labels, by their number.
        query_labels: int64 [n, l], the numbers of each query's labels, padded with `MISSING`.
        image_labels: int64 [m + 1, l], the numbers of each image's labels, padded with `MISSING`; the last row is all
            `MISSING`, so that the row number `MISSING` has no labels.
        neighbours: of each query.
        contents: int64 [m], equal for images that share a vote; None: none do.
    """

    encoder: str
    itself: bool
    query_ids: Sequence[str]
    image_ids: Sequence[str]
    labels: list[str]
    query_labels: Integers
    image_labels: Integers
    neighbours: Neighbours
    contents: Integers | None = None

    def names(self, numbers: Integers) -> list[str]:
        """The labels with these numbers, without `MISSING`."""
        return [self.labels[number] for number in numbers.tolist() if number != MISSING]

    def right(self, rows: Integers, queries: slice | Integers = slice(None)) -> NDArray[np.bool_]:
        """Whether each neighbour [n, k] of some queries has a label in common with its query."""
        return shares_label(self.image_labels[rows], self.query_labels[queries])

    def ballots(self, neighbours: Neighbours) -> Ballots:
        """The ballots of neighbours."""
        return collect_ballots(self.image_labels[neighbours.rows])

    def accuracy(self, neighbours: Neighbours, votes: Sequence[VoteOptions]) -> NDArray[np.float64]:
        """The fraction of queries that each vote classifies correctly at k = 1, 2, ..., float64 [votes, k]."""
        right = np.zeros((len(votes), neighbours.k))
        for queries in slices(len(self.query_labels)):
            some = neighbours.of(queries)
            ballots = self.ballots(some)
            for row, options in enumerate(votes):
                winners = some.at_each_k(winners_by_k(ballots, some.weights(options)), neighbours.k)
                right[row] += in_labels(winners, self.query_labels[queries]).sum(axis=0)
        return right / len(self.query_labels)


def slices(size: int, step: int = SLICE) -> Iterator[slice]:
    """Consecutive slices of a sequence of a given size."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def build_neighbour_matrix(
    encoder: str, queries: IdsAndLabels, images: IdsAndLabels, neighbours: Neighbours, *, itself: bool
) -> NeighbourMatrix:
    """Number the labels of queries and images; see `NeighbourMatrix`."""
    numbers = LabelNumbers()
    image_labels = numbers.matrix([*images[1], []])
    query_labels = numbers.matrix(queries[1])
    return NeighbourMatrix(
        encoder, itself, queries[0], images[0], numbers.labels(), query_labels, image_labels, neighbours
    )
