"""The neighbours of a study's queries with soft and with hard pruning."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours
from visual_memory.services.voting.batch_votes import Integers, shares_label
from visual_memory.services.voting.exact_neighbours import MISSING
from visual_memory.services.voting.image_reliability import HARD_K, SOFT_K, count_votes, hard_threshold, reliability

Search = Callable[[Integers, int], Neighbours]
"""The nearest neighbours of the queries with these numbers, so many of each."""


@dataclass(frozen=True)
class Pruning:
    """The wrong votes of the images of a memory, counted leaving one out, and what they cost.

    Where the memory is asked about itself, a query's own label has had a part in the wrong votes of its neighbours.
    That part is taken away, or the answer would know what it is asked for.

    Attributes:
        study: of the queries, with neighbours that are not pruned.
        few: int64 [m], each image's wrong votes over 10 neighbours.
        many: int64 [m], each image's wrong votes over 100 neighbours.
        above: wrong votes of `many` from which on an image is left out.
    """

    study: NeighbourMatrix
    few: Integers
    many: Integers
    above: int

    @classmethod
    def of(cls, study: NeighbourMatrix, around: Integers, above: int | None) -> Self:
        """Count wrong votes.

        Args:
            study: of the queries.
            around: int64 [m, k], the neighbours of each image of the memory, without itself.
            above: wrong votes from which on an image is left out; None: `hard_threshold`.
        """
        few, many = slice(SOFT_K), slice(HARD_K)
        right = shares_label(study.votes_for[around], study.votes_for[:-1])
        over_few = count_votes(around[:, few], right[:, few])[:, 0]
        over_many = count_votes(around[:, many], right[:, many])[:, 0]
        return cls(study, over_few, over_many, above or hard_threshold(over_many, min(HARD_K, around.shape[1])))

    @property
    def pruned(self) -> int:
        """How many images are left out."""
        return int((self.many >= self.above).sum())

    def softly(self) -> Neighbours:
        """The same neighbours, their votes multiplied."""
        voters = self.study.voters
        wrong = self.few[voters.rows] - self._own(voters.rows, slice(None), SOFT_K)
        return Neighbours(voters.similarities, voters.rows, reliability(wrong))

    def hard(self, search: Search | None) -> Neighbours:
        """The neighbours that are not left out: the next nearest take the places of the others.

        Args:
            search: finds more neighbours where those at hand are not enough; None: there are no more.
        """
        voters, k = self.study.voters, self.study.voters.rows.shape[1]
        kept, left, width = self._keep(voters, slice(None), k), np.arange(len(voters.rows)), k
        while search and width < len(self.study.image_ids) and (left := left[kept.rows[left, -1] == MISSING]).size:
            width = min(4 * width, len(self.study.image_ids))
            found = self._keep(search(left, width), left, k)
            kept.similarities[left], kept.rows[left] = found.similarities, found.rows
        return kept

    def _keep(self, voters: Neighbours, queries: slice | Integers, k: int) -> Neighbours:
        """The nearest k of them that are not left out; nobody at the end where they are fewer."""
        wrong = self.many[voters.rows] - self._own(voters.rows, queries, HARD_K)
        fine = (wrong < self.above) & (voters.rows != MISSING)
        order = np.argsort(~fine, axis=1, kind="stable")[:, :k]
        here, rows, similarities = (
            np.take_along_axis(each, order, 1) for each in (fine, voters.rows, voters.similarities)
        )
        return Neighbours.equal(np.where(here, similarities, -1.0), np.where(here, rows, MISSING))

    def _own(self, rows: Integers, queries: slice | Integers, k: int) -> NDArray[np.bool_]:
        """Whether a neighbour has one of its wrong votes from the query itself."""
        near = np.arange(rows.shape[1]) < k
        return near & ~self.study.right(rows, queries) & self.study.itself
