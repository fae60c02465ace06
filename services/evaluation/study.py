"""Queries, the images that vote, and who is whose neighbour: what everything in an evaluation is measured on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.decision import VoteOptions
from services.decision.neighbours import NOBODY
from services.decision.tally import Ballots, Numbers, among, answers, ballots, in_common
from services.decision.votes import weigh

Vectors = NDArray[np.float32]
Named = tuple[Sequence[str], Sequence[Sequence[str]]]
SLICE = 8192
"""Queries whose votes are counted at once, so that the room this takes does not grow with their number."""


@dataclass(frozen=True)
class Labelled:
    """Images with their labels and vectors.

    Attributes:
        ids: n image ids, each once.
        labels: of each image, one or more, each once.
        vectors: float32 [n, d], rows of length 1.
    """

    ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    vectors: Vectors


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of n queries, the nearest first.

    Attributes:
        similarities: float64 [n, k], cosine similarities; -1 where there is nobody.
        rows: int64 [n, k], which images of the memory; `NOBODY` where there is nobody.
        reliability: float64 [n, k], what their votes are multiplied by.
    """

    similarities: NDArray[np.float64]
    rows: Numbers
    reliability: NDArray[np.float64]

    @classmethod
    def equal(cls, similarities: NDArray[np.floating], rows: Numbers) -> Self:
        """Neighbours whose votes are multiplied by nothing."""
        return cls(similarities.astype(np.float64), rows, np.ones(rows.shape))

    def of(self, queries: slice) -> "Neighbours":
        """Those of some queries."""
        return Neighbours(self.similarities[queries], self.rows[queries], self.reliability[queries])

    def nearest(self, k: int) -> "Neighbours":
        """The nearest k of each query."""
        return Neighbours(self.similarities[:, :k], self.rows[:, :k], self.reliability[:, :k])

    def weights(self, options: VoteOptions) -> NDArray[np.float64]:
        """What each gives to its labels, [n, k]."""
        return weigh(self.similarities, options) * self.reliability


class Numbering:
    """Numbers for labels, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def labels(self) -> list[str]:
        """All labels so far, by their number."""
        return list(self._numbers)

    def matrix(self, labels: Iterable[Sequence[str]]) -> Numbers:
        """The labels' numbers.

        Args:
            labels: of each of n images.

        Returns:
            int64 [n, l], rows filled up with `NOBODY`.
        """
        numbered = [[self._numbers.setdefault(label, len(self._numbers)) for label in some] for some in labels]
        matrix = np.full((len(numbered), max(map(len, numbered), default=0)), NOBODY)
        for row, some in zip(matrix, numbered, strict=True):
            row[: len(some)] = some
        return matrix


@dataclass(frozen=True)
class Study:
    """Queries with their neighbours.

    Attributes:
        encoder: whose vectors were compared.
        itself: whether the queries are the memory; none of them is then its own neighbour.
        query_ids: n image ids.
        image_ids: m image ids.
        labels: all labels, by their number.
        truth: int64 [n, l], the numbers of each query's labels, filled up with `NOBODY`.
        votes_for: int64 [m + 1, l], the numbers of each image's labels, filled up with `NOBODY`; the last row is all
            `NOBODY`, so that it is what `NOBODY` votes for.
        voters: the neighbours of each query.
    """

    encoder: str
    itself: bool
    query_ids: Sequence[str]
    image_ids: Sequence[str]
    labels: list[str]
    truth: Numbers
    votes_for: Numbers
    voters: Neighbours

    def names(self, numbers: Numbers) -> list[str]:
        """The labels with these numbers, without `NOBODY`."""
        return [self.labels[number] for number in numbers.tolist() if number != NOBODY]

    def right(self, rows: Numbers, queries: slice | Numbers = slice(None)) -> NDArray[np.bool_]:
        """Whether each neighbour [n, k] of some queries has a label in common with its query."""
        return in_common(self.votes_for[rows], self.truth[queries])

    def ballots(self, voters: Neighbours) -> Ballots:
        """The ballots of neighbours."""
        return ballots(self.votes_for[voters.rows])

    def accuracy(self, voters: Neighbours, votes: Sequence[VoteOptions]) -> NDArray[np.float64]:
        """The part of the queries that each vote answers rightly at k = 1, 2, ..., float64 [votes, k]."""
        right = np.zeros((len(votes), voters.rows.shape[1]))
        for queries in slices(len(self.truth)):
            some = voters.of(queries)
            cast = self.ballots(some)
            for place, options in enumerate(votes):
                won = answers(cast, some.weights(options))
                right[place] += among(won, self.truth[queries]).sum(axis=0)
        return right / len(self.truth)


def slices(size: int, step: int = SLICE) -> Iterator[slice]:
    """Parts of so many things, one after the other."""
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def study_of(encoder: str, queries: Named, images: Named, voters: Neighbours, *, itself: bool) -> Study:
    """A study of queries and images, given as their ids and the labels of each; see `Study`."""
    numbering = Numbering()
    votes_for = numbering.matrix([*images[1], []])
    truth = numbering.matrix(queries[1])
    return Study(encoder, itself, queries[0], images[0], numbering.labels(), truth, votes_for, voters)
