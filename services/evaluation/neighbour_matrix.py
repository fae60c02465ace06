"""Queries, the images that vote, and who is whose neighbour: what everything in an evaluation is measured on."""

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
from visual_memory.services.voting.exact_neighbours import MISSING
from visual_memory.services.voting.group_copies import voting_order
from visual_memory.services.voting.vote_weights import vote_weights

Vectors = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
Named = tuple[Sequence[str], Sequence[Sequence[str]]]
SLICE = 8192
"""Queries whose votes are counted at once, so that the room this takes does not grow with their number."""


@dataclass(frozen=True)
class LabelledVectors:
    """Images with their labels and vectors.

    Attributes:
        ids: n image ids, each once.
        labels: of each image, one or more, each once.
        vectors: float32 [n, d], rows of length 1.
        contents: of each image, what those that share a vote have in common; empty where none does.
    """

    ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    vectors: Vectors
    contents: Sequence[str] = ()


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of n queries, the nearest first; or, where some share a vote, these side by side.

    Attributes:
        similarities: float64 [n, k], cosine similarities; -1 where there is nobody.
        rows: int64 [n, k], which images of the memory; `MISSING` where there is nobody.
        reliability: float64 [n, k], what their votes are multiplied by.
        ranks: int64 [n, k], which those that share a vote have in common; None: none does.
    """

    similarities: NDArray[np.float64]
    rows: Integers
    reliability: NDArray[np.float64]
    ranks: Integers | None = None

    @classmethod
    def equal(cls, similarities: NDArray[np.floating], rows: Integers) -> Self:
        """Neighbours whose votes are multiplied by nothing."""
        return cls(similarities.astype(np.float64), rows, np.ones(rows.shape))

    @property
    def k(self) -> int:
        """How many vote at most, those that share a vote counted once."""
        return self.rows.shape[1] if self.ranks is None else int(self.ranks.max(initial=MISSING)) + 1

    def of(self, queries: slice) -> "Neighbours":
        """Those of some queries."""
        ranks = None if self.ranks is None else self.ranks[queries]
        return Neighbours(self.similarities[queries], self.rows[queries], self.reliability[queries], ranks)

    def nearest(self, k: int) -> "Neighbours":
        """The nearest k of each query."""
        if self.ranks is None:
            return Neighbours(self.similarities[:, :k], self.rows[:, :k], self.reliability[:, :k])
        votes = (self.ranks != MISSING) & (self.ranks < k)
        some = slice(int(votes.sum(axis=1).max(initial=0)))  # those who vote come first
        similarities, rows = np.where(votes, self.similarities, -1.0), np.where(votes, self.rows, MISSING)
        ranks = np.where(votes, self.ranks, MISSING)
        return Neighbours(similarities[:, some], rows[:, some], self.reliability[:, some], ranks[:, some])

    def sharing(self, contents: Integers | None, k: int) -> "Neighbours":
        """The nearest k of each query, where those of one content share a vote.

        Args:
            contents: int64 [m], of each image of the memory; None: none shares its vote.
            k: how many, those that share a vote counted once.
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
        """What each gives to its labels, [n, k]."""
        ranks = None if self.ranks is None else np.maximum(self.ranks, 0)
        return vote_weights(self.similarities, options, ranks) * self.reliability

    def first_of_each(self) -> NDArray[np.bool_]:
        """Whether each [n, k] is there, and the nearest of those that share its vote."""
        there: NDArray[np.bool_] = self.rows != MISSING
        if self.ranks is not None:
            there[:, 1:] &= self.ranks[:, 1:] != self.ranks[:, :-1]
        return there

    def distances(self) -> NDArray[np.float64]:
        """Cosine distances [n, k], of those that share a vote to the nearest; not a number where there is nobody."""
        return np.where(self.first_of_each(), 1 - self.similarities, np.nan)

    def mean_distances(self) -> NDArray[np.float64]:
        """The mean cosine distance [n] to those that vote: novelty."""
        means: NDArray[np.float64] = np.nanmean(self.distances(), axis=1)
        return means

    def at_each_k(self, by_place: NDArray[T], k: int) -> NDArray[T]:
        """What holds after each of the neighbours, [n, places], as what holds after the nearest 1, 2, ... k of them."""
        if self.ranks is None:
            return by_place
        query, place = np.nonzero(self.ranks != MISSING)
        numbers = np.bincount(query * k + self.ranks[query, place], minlength=len(self.ranks) * k)
        last = np.cumsum(numbers.reshape(-1, k), axis=1) - 1
        return np.take_along_axis(by_place, np.maximum(last, 0), 1)


class LabelNumbers:
    """Numbers for labels, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def labels(self) -> list[str]:
        """All labels so far, by their number."""
        return list(self._numbers)

    def matrix(self, labels: Iterable[Sequence[str]]) -> Integers:
        """The labels' numbers.

        Args:
            labels: of each of n images.

        Returns:
            int64 [n, l], rows filled up with `MISSING`.
        """
        numbered = [[self._numbers.setdefault(label, len(self._numbers)) for label in some] for some in labels]
        matrix = np.full((len(numbered), max(map(len, numbered), default=0)), MISSING)
        for row, some in zip(matrix, numbered, strict=True):
            row[: len(some)] = some
        return matrix


@dataclass(frozen=True)
class NeighbourMatrix:
    """Queries with their neighbours.

    Attributes:
        encoder: whose vectors were compared.
        itself: whether the queries are the memory; none of them is then its own neighbour.
        query_ids: n image ids.
        image_ids: m image ids.
        labels: all labels, by their number.
        truth: int64 [n, l], the numbers of each query's labels, filled up with `MISSING`.
        votes_for: int64 [m + 1, l], the numbers of each image's labels, filled up with `MISSING`; the last row is all
            `MISSING`, so that it is what `MISSING` votes for.
        voters: the neighbours of each query.
        contents: int64 [m], what those images have in common that share a vote; None: none does.
    """

    encoder: str
    itself: bool
    query_ids: Sequence[str]
    image_ids: Sequence[str]
    labels: list[str]
    truth: Integers
    votes_for: Integers
    voters: Neighbours
    contents: Integers | None = None

    def names(self, numbers: Integers) -> list[str]:
        """The labels with these numbers, without `MISSING`."""
        return [self.labels[number] for number in numbers.tolist() if number != MISSING]

    def right(self, rows: Integers, queries: slice | Integers = slice(None)) -> NDArray[np.bool_]:
        """Whether each neighbour [n, k] of some queries has a label in common with its query."""
        return shares_label(self.votes_for[rows], self.truth[queries])

    def ballots(self, voters: Neighbours) -> Ballots:
        """The ballots of neighbours."""
        return collect_ballots(self.votes_for[voters.rows])

    def accuracy(self, voters: Neighbours, votes: Sequence[VoteOptions]) -> NDArray[np.float64]:
        """The part of the queries that each vote answers rightly at k = 1, 2, ..., float64 [votes, k]."""
        right = np.zeros((len(votes), voters.k))
        for queries in slices(len(self.truth)):
            some = voters.of(queries)
            cast = self.ballots(some)
            for place, options in enumerate(votes):
                won = some.at_each_k(winners_by_k(cast, some.weights(options)), voters.k)
                right[place] += in_labels(won, self.truth[queries]).sum(axis=0)
        return right / len(self.truth)


def slices(size: int, step: int = SLICE) -> Iterator[slice]:
    """Parts of so many things, one after the other."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def build_neighbour_matrix(
    encoder: str, queries: Named, images: Named, voters: Neighbours, *, itself: bool
) -> NeighbourMatrix:
    """A study of queries and images, given as their ids and the labels of each; see `NeighbourMatrix`."""
    numbering = LabelNumbers()
    votes_for = numbering.matrix([*images[1], []])
    truth = numbering.matrix(queries[1])
    return NeighbourMatrix(encoder, itself, queries[0], images[0], numbering.labels(), truth, votes_for, voters)
