"""Measure which fraction of the exact neighbours the memory's approximate search finds."""

from collections.abc import Callable

import numpy as np

from visual_memory.schemas.classify_options import Effort
from visual_memory.services.evaluation.neighbour_matrix import Vectors, slices
from visual_memory.services.evaluation.search_with_progress import Progress
from visual_memory.services.evaluation.vote_with_subset import SubsetVote

ApproximateSearch = Callable[[Vectors, int, Effort], list[list[str]]]
"""The memory's own search: ids of the k images found for each vector with an effort, nearest first; an image may find
itself."""

MAX_QUERIES = 1000
"""Sample size; the approximate search answers one query after the other."""
BATCH = 32
KS = (1, 5, 10, 20, 50, 100)
TOLERANCE = 1e-5
"""Similarities that differ by less are equal: two searches round differently."""


def search_recall(vote: SubsetVote, search: ApproximateSearch, effort: Effort, progress: Progress) -> dict[int, float]:
    """The fraction of the k nearest images that a search finds, 0 to 1, by k; an equally near image counts as found."""
    matrix, row_of = vote.matrix, {image_id: row for row, image_id in enumerate(vote.matrix.image_ids)}
    queries, width = vote.sample(len(vote.queries), MAX_QUERIES), matrix.neighbours.rows.shape[1]
    found = {k: 0.0 for k in KS if k <= width}
    for some in slices(len(queries), BATCH):
        results = search(vote.queries[queries[some]], width + matrix.itself, effort)
        for query, image_ids in zip(queries[some].tolist(), results, strict=True):
            own = matrix.query_ids[query] if matrix.itself else None
            rows = [row_of[each] for each in image_ids if each != own and each in row_of]
            near, exact = vote.memory[rows] @ vote.queries[query], matrix.neighbours.similarities[query]
            for k in found:
                found[k] += float(np.mean(np.arange(k) < np.sum(near[:k] >= exact[k - 1] - TOLERANCE)))
        progress(f"{effort} search", some.stop, len(queries))
    return {k: total / len(queries) for k, total in found.items()}
