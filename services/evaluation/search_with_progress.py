"""Find the exact neighbours of many queries, slice by slice, with progress."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import MAX_TIMES_K
from visual_memory.services.evaluation.neighbour_matrix import Neighbours, T, Vectors, slices
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.voting.batch_votes import Integers
from visual_memory.services.voting.brute_force_neighbours import MISSING, nearest
from visual_memory.services.voting.group_copies import voting_order

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and the total."""

STEP = 512


def exact_search(
    queries: Vectors,
    memory: Vectors,
    k: int,
    leave_out: Integers | None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    contents: Integers | None = None,
) -> Neighbours:
    """Find the exact neighbours of queries; see `services.voting.brute_force_neighbours.nearest`.

    With `contents` of the images, as many neighbours are returned as are needed for k votes, up to 4 k.
    """
    found = []
    width = k if contents is None else min(MAX_TIMES_K * k, len(memory))
    for some in slices(len(queries), STEP):
        own = None if leave_out is None else leave_out[some]
        similarities, rows = nearest(queries[some], memory, width, own, cpu_threads.count())
        if contents is not None:
            groups = np.where(rows == MISSING, MISSING, contents[rows])
            voting = voting_order(groups, similarities, k)
            last = int(np.where(voting.ranks == MISSING, 0, voting.order).max(initial=0))
            similarities, rows = similarities[:, : last + 1], rows[:, : last + 1]
        found.append((similarities, rows))
        progress(some.stop, len(queries))
    widest = max((rows.shape[1] for _, rows in found), default=k)
    return Neighbours.equal(
        _stack([each for each, _ in found], widest, -1), _stack([each for _, each in found], widest, MISSING)
    )


def _stack(parts: Sequence[NDArray[T]], width: int, fill: float) -> NDArray[T]:
    """Concatenate tables, each padded to a width."""
    return np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1])), constant_values=fill) for each in parts])
