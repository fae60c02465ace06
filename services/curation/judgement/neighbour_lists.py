"""The nearest neighbours of every image of a memory, updated as images are added and removed.

Each list is the beginning of the complete order of all other images, by descending similarity, then by ascending row.
That stays true when images are removed, and when new ones are inserted before its end, so a list is searched anew only
if it becomes too short. A similarity depends on the two vectors alone (see `services.voting.brute_force_neighbours`),
so a list does not depend on the order in which images arrived.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from visual_memory.services.voting.brute_force_neighbours import (
    GATHERED_BYTES,
    MISSING,
    SLACK,
    Rows,
    Similarities,
    Vectors,
    nearest,
)

MIN_NEIGHBOURS = 100
"""The least number of neighbours in a list, if there are that many images."""
MAX_NEIGHBOURS = 128
"""The largest number of neighbours in a list: the margin makes new searches rare."""
NEW_BATCH = 1024
OLD_BATCH = 4096

Mask = NDArray[np.bool_]
ListRows = NDArray[np.int32]


@dataclass(frozen=True)
class NeighbourLists:
    """The neighbours of n images, without the image itself.

    Attributes:
        similarities: cosine similarities float32 [n, MAX_NEIGHBOURS], the nearest first; -1 where there are fewer.
        rows: int32 [n, MAX_NEIGHBOURS], the same neighbours; `MISSING` where there are fewer.
    """

    similarities: Similarities
    rows: ListRows

    @classmethod
    def of_none(cls) -> "NeighbourLists":
        """The lists of an empty memory."""
        return _empty(0)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.rows)

    def lengths(self) -> Rows:
        """The number of neighbours in each list, int64 [n]."""
        lengths: Rows = np.count_nonzero(self.rows != MISSING, axis=1)
        return lengths

    def short(self) -> Rows:
        """Rows whose lists have fewer than `MIN_NEIGHBOURS` neighbours although there are more images, int64 [m]."""
        return np.flatnonzero(self.lengths() < min(MIN_NEIGHBOURS, len(self) - 1))

    def where(self, mask: Mask) -> "NeighbourLists":
        """The lists of the images of a mask [n], with renumbered rows."""
        if mask.all():
            return self
        rows = _renumber(np.where(mask, np.cumsum(mask) - 1, MISSING), self.rows[mask])
        similarities = self.similarities[mask]
        lost = np.flatnonzero(((rows == MISSING) & (self.rows[mask] != MISSING)).any(axis=1))
        order = np.argsort(rows[lost] == MISSING, axis=1, kind="stable")
        rows[lost] = np.take_along_axis(rows[lost], order, 1)
        moved = np.take_along_axis(similarities[lost], order, 1)
        similarities[lost] = np.where(rows[lost] == MISSING, -1, moved)
        return NeighbourLists(similarities, rows)

    def with_new(
        self, vectors: Vectors, new: Mask, threads: int = 1, progress: Callable[[int, int], None] = lambda *_: None
    ) -> "NeighbourLists":
        """The lists of these and new images; lists that are too short are searched anew.

        Args:
            vectors: of all images, old and new, float32 [m, d], rows of length 1.
            new: [m], which of them are new; the others are those of these lists, in the same order.
            threads: the number of threads, at best that of the cores.
            progress: called with the numbers of compared and of all new images; may raise to stop the work.
        """
        old, added = np.flatnonzero(~new), np.flatnonzero(new)
        lists, distinct = _empty(len(new)), _DistinctVectors.of(vectors)
        lists.rows[old] = _renumber(old, self.rows)
        lists.similarities[old] = self.similarities
        complete = self.lengths() == len(self) - 1
        parts = [slice(start, start + OLD_BATCH) for start in range(0, len(old), OLD_BATCH)]
        # One thread per core for a whole part keeps the cores busier than products that share all cores.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(added), NEW_BATCH):
                insert = partial(_insert, lists, distinct, new=added[start : start + NEW_BATCH])
                list(pool.map(insert, [old[part] for part in parts], [complete[part] for part in parts]))
        for start in range(0, len(added), NEW_BATCH):
            progress(start, len(added))
            _search(lists, distinct, added[start : start + NEW_BATCH], threads)
        _search(lists, distinct, lists.short(), threads)
        return lists

    def refilled(self, vectors: Vectors, threads: int = 1) -> "NeighbourLists":
        """The lists, with those that are too short searched anew; see `with_new`."""
        return self.with_new(vectors, np.zeros(len(self), bool), threads) if len(self.short()) else self


@dataclass(frozen=True)
class _DistinctVectors:
    """The vectors of a memory; equal ones are compared once, because a camera may send the same frame for hours.

    Attributes:
        vectors: float32 [n, d].
        first: int64 [u], the first row of each distinct vector, ascending.
        which: int64 [n], the distinct vector of each row.
    """

    vectors: Vectors
    first: Rows
    which: Rows

    @classmethod
    def of(cls, vectors: Vectors) -> "_DistinctVectors":
        found: dict[bytes, int] = {}
        digests = (blake2b(row.data, digest_size=16).digest() for row in vectors)
        which = np.array([found.setdefault(digest, len(found)) for digest in digests], np.int64)
        first = np.unique(which, return_index=True)[1]
        return cls(vectors, first, which)

    def products(self, some: Rows, others: Rows) -> Similarities:
        """The similarities of pairs of rows, float32 [pairs]."""
        keys = self.which[some] * len(self.first) + self.which[others]
        distinct, back = np.unique(keys, return_inverse=True)
        left, right = (self.first[each] for each in np.divmod(distinct, len(self.first)))
        found = np.empty(len(distinct), np.float32)
        step = max(1, GATHERED_BYTES // (self.vectors.shape[1] * self.vectors.itemsize))
        for start in range(0, len(distinct), step):
            part = slice(start, start + step)
            found[part] = np.vecdot(self.vectors[left[part]], self.vectors[right[part]])
        return np.clip(found, -1, 1)[back]

    def nearest(self, queries: Rows, threads: int) -> tuple[Similarities, Rows]:
        """The neighbours of some rows; see `services.voting.brute_force_neighbours.nearest`."""
        if len(self.first) == len(self.which):
            return nearest(self.vectors[queries], self.vectors, MAX_NEIGHBOURS, queries, threads)
        distinct, back = np.unique(self.which[queries], return_inverse=True)
        # one more than needed, because each row is its own nearest neighbour here, and is dropped below
        one_of_each = self.vectors[self.first]
        near, rows = self._spread(*nearest(one_of_each[distinct], one_of_each, MAX_NEIGHBOURS + 1, threads=threads))
        near, rows = near[back], rows[back]
        last = (rows == queries[:, None]) | (rows == MISSING)
        order = np.argsort(last, axis=1, kind="stable")[:, :MAX_NEIGHBOURS]
        missing = np.take_along_axis(last, order, 1)
        return (
            np.where(missing, -1, np.take_along_axis(near, order, 1)),
            np.where(missing, MISSING, np.take_along_axis(rows, order, 1)),
        )

    def _spread(self, similarities: Similarities, which: Rows) -> tuple[Similarities, Rows]:
        """Replace distinct vectors by their rows, ties by row; [q, MAX_NEIGHBOURS + 1] before and after."""
        width = which.shape[1]
        by_vector = np.argsort(self.which, kind="stable")
        number = np.bincount(self.which, minlength=len(self.first))
        start = np.cumsum(number) - number
        wide = np.full(which.shape, -1, np.float32), np.full(which.shape, MISSING, np.int64)
        for query, (near, found) in enumerate(zip(similarities, which, strict=True)):
            vectors = found[found != MISSING]
            sizes = np.minimum(number[vectors], width)
            last = min(int(np.searchsorted(np.cumsum(sizes), width)), len(vectors) - 1)
            end = int(
                np.searchsorted(-near[: len(vectors)], -near[last], side="right")
            )  # equally similar ones may have lower rows
            sizes = sizes[:end]
            offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            rows = by_vector[np.repeat(start[vectors[:end]], sizes) + offsets]
            spread = np.repeat(near[:end], sizes)
            order = np.lexsort((rows, -spread))[:width]
            wide[0][query, : len(order)], wide[1][query, : len(order)] = spread[order], rows[order]
        return wide


def _empty(size: int) -> NeighbourLists:
    return NeighbourLists(
        np.full((size, MAX_NEIGHBOURS), -1, np.float32), np.full((size, MAX_NEIGHBOURS), MISSING, np.int32)
    )


def _renumber(numbers: Rows, rows: ListRows) -> ListRows:
    """Replace rows by their new numbers; `MISSING` stays."""
    return np.append(numbers, MISSING).astype(np.int32)[rows]


def _search(lists: NeighbourLists, distinct: _DistinctVectors, rows: Rows, threads: int) -> None:
    """Search the neighbours of some images; their lists are changed in place."""
    if len(rows):
        lists.similarities[rows], lists.rows[rows] = distinct.nearest(rows, threads)


def _insert(lists: NeighbourLists, distinct: _DistinctVectors, old: Rows, complete: Mask, new: Rows) -> None:
    """Insert new images into the lists of old ones, where they come before the end of a list.

    Args:
        lists: of all images; those of `old` are changed in place.
        distinct: the vectors of all images.
        old: int64 [o].
        complete: [o], whether the list has all other images, so that new ones are inserted while it has space.
        new: int64 [m].
    """
    similarities, rows = lists.similarities[old], lists.rows[old]
    lengths = (rows != MISSING).sum(axis=1)
    last = np.maximum(lengths - 1, 0)[:, None]
    bound = np.take_along_axis(similarities, last, 1)[:, 0]
    unbounded = complete & (lengths < MAX_NEIGHBOURS)
    bound[unbounded], bound[~unbounded & (lengths == 0)] = -np.inf, np.inf
    candidates = distinct.vectors[old] @ distinct.vectors[new].T >= (bound - SLACK)[:, None]
    row, number = np.nonzero(candidates)
    if not len(row):
        return
    found = distinct.products(old[row], new[number])
    end = np.take_along_axis(rows, last, 1)[:, 0]
    belongs = (found > bound[row]) | ((found == bound[row]) & (new[number] < end[row]))
    row, number, found = row[belongs], number[belongs], found[belongs]
    changed, start, more = np.unique(row, return_index=True, return_counts=True)
    if not len(changed):
        return
    wider = MAX_NEIGHBOURS + int(more.max())
    merged = np.full((len(changed), wider), -np.inf, np.float32), np.full((len(changed), wider), MISSING, np.int32)
    merged[0][:, :MAX_NEIGHBOURS] = np.where(rows[changed] == MISSING, -np.inf, similarities[changed])
    merged[1][:, :MAX_NEIGHBOURS] = rows[changed]
    line = np.repeat(np.arange(len(changed)), more)
    column = MAX_NEIGHBOURS + np.arange(len(row)) - np.repeat(start, more)
    merged[0][line, column], merged[1][line, column] = found, new[number]
    order = np.lexsort((merged[1], -merged[0]))[:, :MAX_NEIGHBOURS]
    near, which = (np.take_along_axis(each, order, 1) for each in merged)
    lists.similarities[old[changed]] = np.where(which == MISSING, -1, near)
    lists.rows[old[changed]] = which
