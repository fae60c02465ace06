"""Prune the neighbours of queries softly and hard, so that accuracy can be measured on the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours
from visual_memory.services.voting.batch_votes import Integers, shares_label
from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.image_reliability import HARD_K, SOFT_K, count_votes, hard_threshold, reliability

Search = Callable[[Integers, int], Neighbours]
"""Finds the nearest k neighbours of the queries with these row numbers."""


@dataclass(frozen=True)
class Pruning:
    """The wrong votes of the images of a memory, counted by leave-one-out, and their effect on queries.

    If the memory is its own queries, a query's label contributed to the wrong votes of its neighbours. That
    contribution is subtracted; otherwise the answer would depend on the query's own label.

    Attributes:
        matrix: the queries, with neighbours that are not pruned.
        soft_wrong: int64 [m], each image's wrong votes over 10 neighbours.
        hard_wrong: int64 [m], each image's wrong votes over 100 neighbours.
        above: minimum of `hard_wrong` from which an image is left out.
    """

    matrix: NeighbourMatrix
    soft_wrong: Integers
    hard_wrong: Integers
    above: int

    @classmethod
    def of(cls, matrix: NeighbourMatrix, around: Integers, above: int | None) -> Self:
        """Count wrong votes.

        Args:
            matrix: the queries.
            around: int64 [m, k], the neighbours of each image of the memory, without itself.
            above: number of wrong votes from which an image is left out; None: `hard_threshold`.
        """
        soft, hard = slice(SOFT_K), slice(HARD_K)
        right = shares_label(matrix.image_labels[around], matrix.image_labels[:-1])
        soft_wrong = count_votes(around[:, soft], right[:, soft])[:, 0]
        hard_wrong = count_votes(around[:, hard], right[:, hard])[:, 0]
        above = above or hard_threshold(hard_wrong, min(HARD_K, around.shape[1]))
        return cls(matrix, soft_wrong, hard_wrong, above)

    @property
    def pruned(self) -> int:
        """How many images are left out."""
        return int((self.hard_wrong >= self.above).sum())

    def soft(self) -> Neighbours:
        """The same neighbours, weighted by their reliability."""
        neighbours = self.matrix.neighbours
        wrong = self.soft_wrong[neighbours.rows] - self._caused_by_query(neighbours.rows, slice(None), SOFT_K)
        return Neighbours(neighbours.similarities, neighbours.rows, reliability(wrong))

    def hard(self, search: Search | None) -> Neighbours:
        """The neighbours that are not left out; the next nearest replace the others.

        Args:
            search: finds more neighbours if the known ones are not enough; None: there are no more.
        """
        matrix, neighbours = self.matrix, self.matrix.neighbours
        k = width = neighbours.rows.shape[1]
        kept, left = self._drop_pruned(neighbours, slice(None), k), np.arange(len(neighbours.rows))
        while search and width < len(matrix.image_ids) and (left := left[kept.rows[left, -1] == MISSING]).size:
            width = min(4 * width, len(matrix.image_ids))
            found = self._drop_pruned(search(left, width), left, k)
            kept.similarities[left], kept.rows[left] = found.similarities, found.rows
        return kept

    def _drop_pruned(self, neighbours: Neighbours, queries: slice | Integers, k: int) -> Neighbours:
        """The nearest k neighbours that are not left out, padded with `MISSING`."""
        wrong = self.hard_wrong[neighbours.rows] - self._caused_by_query(neighbours.rows, queries, HARD_K)
        votes = (wrong < self.above) & (neighbours.rows != MISSING)
        order = np.argsort(~votes, axis=1, kind="stable")[:, :k]
        votes, rows, similarities = (
            np.take_along_axis(each, order, 1) for each in (votes, neighbours.rows, neighbours.similarities)
        )
        return Neighbours.equal(np.where(votes, similarities, -1.0), np.where(votes, rows, MISSING))

    def _caused_by_query(self, rows: Integers, queries: slice | Integers, k: int) -> NDArray[np.bool_]:
        """Whether the query itself caused one of a neighbour's wrong votes."""
        near = np.arange(rows.shape[1]) < k
        return near & ~self.matrix.right(rows, queries) & self.matrix.itself
