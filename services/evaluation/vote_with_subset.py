"""Classify some queries with some of the images as the memory: the basis of measures that vary the memory."""

from dataclasses import dataclass, replace

import numpy as np

from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours, Vectors
from visual_memory.services.evaluation.search_with_progress import exact_search
from visual_memory.services.voting.batch_votes import Integers
from visual_memory.services.voting.brute_force_neighbours import MISSING

MAX_QUERIES = 5000
"""Sample size for measures that repeat the search with other memories: the error is then known to 0.7 points."""
FOLDS = 5


@dataclass(frozen=True)
class SubsetVote:
    """A neighbour matrix with its vectors.

    Attributes:
        memory: float32 [m, d], vectors of the images.
        queries: float32 [n, d], vectors of the queries.
        options: the vote, and the seed of samples.
        k: the number of votes.
    """

    matrix: NeighbourMatrix
    memory: Vectors
    queries: Vectors
    options: EvaluationOptions
    k: int

    def accuracy(self, queries: Integers, images: Integers) -> float:
        """Accuracy on some queries with some of the images, given by ascending row."""
        some = replace(self.matrix, query_labels=self.matrix.query_labels[queries])
        return float(some.accuracy(self.neighbours(queries, images), [self.options])[0, -1])

    def neighbours(self, queries: Integers, images: Integers) -> Neighbours:
        """The neighbours of some queries among some of the images, given by ascending row."""
        own = None
        if self.matrix.itself:
            position = np.full(len(self.matrix.image_ids), MISSING)
            position[images] = np.arange(len(images))
            own = position[queries]
        k = min(self.k, len(images) - (own is not None and bool((own != MISSING).any())))
        contents = self.matrix.contents
        near = exact_search(
            self.queries[queries],
            self.memory[images],
            k,
            own,
            contents=None if contents is None else contents[images],
        )
        return replace(near, rows=np.append(images, MISSING)[near.rows]).sharing(contents, k)

    def sample(self, size: int, maximum: int) -> Integers:
        """Up to `maximum` of `size` rows, drawn at random; ascending."""
        return sample(size, maximum, self.options.seed)


def sample(size: int, maximum: int, seed: int) -> Integers:
    """Up to `maximum` of `size` rows, drawn at random; ascending."""
    return np.sort(np.random.default_rng(seed).permutation(size)[:maximum])
