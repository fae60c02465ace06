"""Exact neighbours of many queries at once, by matrix product, over memories of any size: they come in blocks."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

NOBODY = -1
GRID = 1e-6
"""Similarities are compared on it: products of the same vectors differ by less when they meet other blocks."""
AT_ONCE = 256
_ROW_BITS = 40

Vectors = NDArray[np.float32]
Similarities = NDArray[np.float32]
Rows = NDArray[np.int64]


def nearest(
    queries: Vectors, blocks: Iterable[Vectors], k: int, leave_out: Rows | None = None
) -> tuple[Similarities, Rows]:
    """The k rows of a memory that are nearest to each query.

    Rows that are equally near (to within `GRID`) are ordered by their number, the lowest first, so the outcome does not
    depend on how the memory is cut into blocks, but for pairs that straddle a line of the grid.

    Args:
        queries: float32 [n, d], rows of length 1.
        blocks: the memory, float32 [m, d] each, rows of length 1; numbered through from 0.
        k: how many for each query, at least 1.
        leave_out: int64 [n], a row that is not a neighbour of each query, such as itself; `NOBODY` for none.

    Returns:
        cosine similarities float32 [n, k], the nearest first, -1 to 1, and rows int64 [n, k]; where the memory holds
        fewer, the rest is -1 and `NOBODY`.
    """
    similarities = np.full((len(queries), k), -1, np.float32)
    rows = np.full((len(queries), k), NOBODY, np.int64)
    first = 0
    for block in blocks:
        for start in range(0, len(queries), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found = np.clip(queries[part] @ block.T, -1, 1)
            numbers = np.broadcast_to(np.arange(first, first + len(block)), found.shape)
            seen = np.concatenate([similarities[part], found], axis=1)
            candidates = np.concatenate([rows[part], numbers], axis=1)
            out = None if leave_out is None else leave_out[part]
            similarities[part], rows[part] = _best(seen, candidates, k, out)
        first += len(block)
    return similarities, rows


def _best(seen: Similarities, candidates: Rows, k: int, leave_out: Rows | None) -> tuple[Similarities, Rows]:
    """The k best of each row of candidates, ordered by similarity on the grid, then by number."""
    keys = np.rint((seen.astype(np.float64) + 1) / GRID).astype(np.int64) << _ROW_BITS
    keys -= candidates  # unique, so that a partition cannot choose among equals
    keys[candidates == NOBODY] = -1
    if leave_out is not None:
        keys[candidates == np.where(leave_out == NOBODY, -2, leave_out)[:, None]] = -2
    order = np.argpartition(keys, -k, axis=1)[:, -k:]
    order = np.take_along_axis(order, np.argsort(-np.take_along_axis(keys, order, axis=1), axis=1), axis=1)
    lost = np.take_along_axis(keys, order, axis=1) < 0
    similarities = np.where(lost, np.float32(-1), np.take_along_axis(seen, order, axis=1))
    return similarities, np.where(lost, NOBODY, np.take_along_axis(candidates, order, axis=1))
