"""Exact neighbours of many queries at once: matrix products find the candidates, and each is then compared by itself.

A matrix product rounds the same pair of vectors differently, depending on what else is in it. So it only proposes; what
counts is a sum over the pair alone, which depends on nothing else that is or ever was in the memory.
"""

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
SLACK = 1e-5
"""How far a matrix product of unit vectors in float32 may be from the sum over the pair."""
SPARE = 16
"""Candidates beyond k, so that the last of k is seldom so near to the last candidate that more must be looked at."""
QUERIES = 128
BLOCK = 8192

Vectors = NDArray[np.float32]
Similarities = NDArray[np.float32]
Rows = NDArray[np.int64]


def nearest(queries: Vectors, memory: Vectors, k: int, leave_out: Rows | None = None) -> tuple[Similarities, Rows]:
    """The k rows of a memory that are nearest to each query.

    Rows that are equally near are ordered by their number, the lowest first.

    Args:
        queries: float32 [n, d], rows of length 1.
        memory: float32 [m, d], rows of length 1.
        k: how many for each query, at least 1.
        leave_out: int64 [n], a row that is not a neighbour of each query, such as itself; `NOBODY` for none.

    Returns:
        cosine similarities float32 [n, k], the nearest first, -1 to 1, and rows int64 [n, k]; where the memory holds
        fewer, the rest is -1 and `NOBODY`.
    """
    similarities = np.full((len(queries), k), -1, np.float32)
    rows = np.full((len(queries), k), NOBODY, np.int64)
    hidden = np.full(len(queries), NOBODY, np.int64) if leave_out is None else leave_out
    for start in range(0, len(queries), QUERIES):
        left, width = np.arange(start, min(start + QUERIES, len(queries))), k + SPARE
        while left.size and len(memory):
            width = min(width, len(memory))
            worst, candidates = _candidates(queries[left], memory, width, hidden[left])
            exact = np.einsum("nd,nkd->nk", queries[left], memory[candidates])
            exact[candidates == hidden[left][:, None]] = -np.inf
            order = np.lexsort((candidates, -exact))[:, :k]
            found, numbers = np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)
            nobody = np.isneginf(found)
            similarities[left, : order.shape[1]] = np.where(nobody, -1, np.clip(found, -1, 1))
            rows[left, : order.shape[1]] = np.where(nobody, NOBODY, numbers)
            if width == len(memory):
                break
            left = left[worst + SLACK >= found[:, -1]]  # what is not among the candidates may be as near as the last
            width *= 4
    return similarities, rows


def _candidates(queries: Vectors, memory: Vectors, width: int, hidden: Rows) -> tuple[Similarities, Rows]:
    """By matrix product: the `width` rows nearest to each query, unordered, and the similarity [n] of the last."""
    best = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for first in range(0, len(memory), BLOCK):
        found = queries @ memory[first : first + BLOCK].T
        inside = np.flatnonzero((hidden >= first) & (hidden < first + found.shape[1]))
        found[inside, hidden[inside] - first] = -np.inf
        numbers = np.broadcast_to(np.arange(first, first + found.shape[1]), found.shape)
        best, rows = np.concatenate([best, found], axis=1), np.concatenate([rows, numbers], axis=1)
        if best.shape[1] > width:
            keep = np.argpartition(best, -width, axis=1)[:, -width:]
            best, rows = np.take_along_axis(best, keep, 1), np.take_along_axis(rows, keep, 1)
    worst: Similarities = best.min(axis=1)
    return worst, rows
