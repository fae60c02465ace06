"""Exact nearest neighbours of many queries by brute force.

A matrix product proposes candidates. It rounds the product of two vectors differently, depending on the other vectors
in it. So the similarity of each candidate is computed once more from the two vectors alone, and depends on no other
image that is or was in the memory.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

MISSING = -1
SLACK = 1e-5
"""The largest rounding difference between a matrix product of float32 unit vectors and the product of a pair."""
SPARE = 16
"""Candidates beyond k; with them, the k-th neighbour is rarely so close to the last candidate that more are needed."""
QUERIES = 512
LEAST_BLOCK = 512
BLOCK = 8192
GATHERED_BYTES = 64 * 2**20
"""Of candidates' vectors that are gathered at once; a small buffer is reused by the allocator."""

Vectors = NDArray[np.float32]
Similarities = NDArray[np.float32]
Rows = NDArray[np.int64]


def nearest(
    queries: Vectors, memory: Vectors, k: int, leave_out: Rows | None = None, threads: int = 1
) -> tuple[Similarities, Rows]:
    """The k rows of a memory that are nearest to each query.

    Rows that are equally near are ordered by their number, the lowest first.

    Args:
        queries: float32 [n, d], rows of length 1.
        memory: float32 [m, d], rows of length 1.
        k: neighbours of each query, at least 1.
        leave_out: int64 [n], for each query a row to leave out, such as the query itself; `MISSING` for none.
        threads: each computes a part of the queries; best as many as there are cores.

    Returns:
        cosine similarities float32 [n, k], the nearest first, -1 to 1, and rows int64 [n, k]; padded with -1
        and `MISSING` where the memory has fewer.
    """
    similarities = np.full((len(queries), k), -1, np.float32)
    rows = np.full((len(queries), k), MISSING, np.int64)
    hidden = np.full(len(queries), MISSING, np.int64) if leave_out is None else leave_out
    parts = [slice(start, start + QUERIES) for start in range(0, len(queries), QUERIES)]

    def work(part: slice) -> None:
        _fill(queries[part], memory, hidden[part], similarities[part], rows[part])

    if len(parts) < 2:
        for part in parts:
            work(part)
    else:
        # One thread per core, each with its own part, uses the cores better than products that share all cores.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, parts))
    return similarities, rows


def _fill(queries: Vectors, memory: Vectors, hidden: Rows, similarities: Similarities, rows: Rows) -> None:
    """Write the neighbours of some queries into the results of `nearest`."""
    k = similarities.shape[1]
    left, width = np.arange(len(queries)), k + SPARE
    while left.size and len(memory):
        width = min(width, len(memory))
        worst, candidates = _candidates(queries[left], memory, width, hidden[left])
        exact = np.clip(_pairwise(queries[left], memory, candidates), -1, 1)
        exact[(candidates == hidden[left][:, None]) | (candidates == MISSING)] = -np.inf
        order = np.lexsort((candidates, -exact))[:, :k]
        found, numbers = np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)
        missing = np.isneginf(found)
        similarities[left, : order.shape[1]] = np.where(missing, -1, found)
        rows[left, : order.shape[1]] = np.where(missing, MISSING, numbers)
        if width == len(memory):
            break
        left = left[worst + SLACK >= found[:, -1]]  # a row that is no candidate may be as near as the last
        width *= 4


def _pairwise(queries: Vectors, memory: Vectors, candidates: Rows) -> Similarities:
    """Each query's product with each of its candidates, float32 [n, width]."""
    step = max(1, GATHERED_BYTES // (candidates.shape[1] * memory.shape[1] * memory.itemsize))
    parts = (slice(start, start + step) for start in range(0, len(queries), step))
    return np.concatenate([np.vecdot(queries[part][:, None], memory[candidates[part]]) for part in parts])


def _candidates(queries: Vectors, memory: Vectors, width: int, hidden: Rows) -> tuple[Similarities, Rows]:
    """The `width` rows nearest to each query by matrix product, unordered, and the similarity [n] of the last.

    Each block is searched only for rows that are nearer than the last candidate so far.
    """
    best = np.full((len(queries), width), -np.inf, np.float32)
    rows = np.full((len(queries), width), MISSING, np.int64)
    for first, end in _blocks(len(memory)):
        found = queries @ memory[first:end].T
        inside = np.flatnonzero((hidden >= first) & (hidden < end))
        found[inside, hidden[inside] - first] = -np.inf
        nearer = _true_positions(found > best[:, :1])
        query, row = np.divmod(nearer, end - first)
        number = np.bincount(query, minlength=len(queries))
        column = width + np.arange(len(query)) - np.repeat(np.cumsum(number) - number, number)
        more = partial(np.pad, pad_width=((0, 0), (0, number.max())))
        best, rows = more(best, constant_values=-np.inf), more(rows, constant_values=MISSING)
        best[query, column], rows[query, column] = found.ravel()[nearer], row + first
        keep = np.argpartition(best, -width, axis=1)[:, -width:]
        best, rows = np.take_along_axis(best, keep, 1), np.take_along_axis(rows, keep, 1)
    return best[:, 0], rows


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    """First row and end of each block; the first blocks are small, for an early threshold."""
    first, length = 0, LEAST_BLOCK
    while first < size:
        yield first, min(first + length, size)
        first, length = first + length, min(2 * length, BLOCK)


def _true_positions(mask: NDArray[np.bool_]) -> Rows:
    """The positions of the few true values in a flattened mask; reads eight values at once where the size allows."""
    flat = mask.ravel()
    if flat.size % 8:
        return np.flatnonzero(flat)
    words = np.flatnonzero(flat.view(np.uint64))
    which, offset = np.nonzero(flat.reshape(-1, 8)[words])
    return words[which] * 8 + offset
