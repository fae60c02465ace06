"""The nearest neighbours of every image of a memory, kept up to date as images come and go.

Each list is the beginning of the full order of all other images, by descending similarity, then by ascending row. That
stays true when images leave, and when new ones are put where they belong before its end; so a list is only looked for
anew where so many left that it is too short. Similarities are products of the pair alone (see
`services.voting.exact_neighbours`), so a list does not depend on the order in which images came.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from visual_memory.services.voting.exact_neighbours import (
    GATHERED_BYTES,
    MISSING,
    SLACK,
    Rows,
    Similarities,
    Vectors,
    nearest,
)

MIN_NEIGHBOURS = 100
"""Neighbours that a list has at least, where there are so many images."""
MAX_NEIGHBOURS = 128
"""Neighbours that a list has at most: the margin makes it rare that one is looked for anew."""
NEW_AT_ONCE = 1024
OLD_AT_ONCE = 4096

Mask = NDArray[np.bool_]
ListRows = NDArray[np.int32]


@dataclass(frozen=True)
class NeighbourLists:
    """The neighbours of n images, each image leaving itself out.

    Attributes:
        similarities: cosine similarities float32 [n, WIDTH], the nearest first; -1 where there is nobody.
        rows: int32 [n, WIDTH], the same neighbours; `MISSING` where there is nobody.
    """

    similarities: Similarities
    rows: ListRows

    @classmethod
    def of_none(cls) -> "NeighbourLists":
        """Those of a memory without images."""
        return _empty(0)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.rows)

    def lengths(self) -> Rows:
        """How many neighbours each list has, int64 [n]."""
        lengths: Rows = np.count_nonzero(self.rows != MISSING, axis=1)
        return lengths

    def short(self) -> Rows:
        """Rows whose lists have fewer than `MIN_NEIGHBOURS` neighbours although there are more images, int64 [m]."""
        return np.flatnonzero(self.lengths() < min(MIN_NEIGHBOURS, len(self) - 1))

    def without(self, stays: Mask) -> "NeighbourLists":
        """Those of the images that stay, renumbered.

        Args:
            stays: [n], whether each image does.
        """
        if stays.all():
            return self
        rows = _renumber(np.where(stays, np.cumsum(stays) - 1, MISSING), self.rows[stays])
        similarities = self.similarities[stays]
        lost = np.flatnonzero(((rows == MISSING) & (self.rows[stays] != MISSING)).any(axis=1))
        order = np.argsort(rows[lost] == MISSING, axis=1, kind="stable")
        rows[lost] = np.take_along_axis(rows[lost], order, 1)
        moved = np.take_along_axis(similarities[lost], order, 1)
        similarities[lost] = np.where(rows[lost] == MISSING, -1, moved)
        return NeighbourLists(similarities, rows)

    def folded(
        self, vectors: Vectors, new: Mask, threads: int = 1, progress: Callable[[int, int], None] = lambda *_: None
    ) -> "NeighbourLists":
        """The lists of these and new images; those that are too short are looked for anew.

        Args:
            vectors: of all images, old and new, float32 [m, d], rows of length 1.
            new: [m], which of them are new; the others are those of these lists, in the same order.
            threads: that compute; best as many as there are cores.
            progress: told how many new images were compared, of how many; what it raises ends the work.
        """
        old, fresh = np.flatnonzero(~new), np.flatnonzero(new)
        lists, copies = _empty(len(new)), _Copies.of(vectors)
        lists.rows[old] = _renumber(old, self.rows)
        lists.similarities[old] = self.similarities
        whole = self.lengths() == len(self) - 1
        parts = [slice(start, start + OLD_AT_ONCE) for start in range(0, len(old), OLD_AT_ONCE)]
        # A thread for each core that does all of a part keeps them busier than products that share every core.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(fresh), NEW_AT_ONCE):
                insert = partial(_insert, lists, copies, new=fresh[start : start + NEW_AT_ONCE])
                list(pool.map(insert, [old[part] for part in parts], [whole[part] for part in parts]))
        for start in range(0, len(fresh), NEW_AT_ONCE):
            progress(start, len(fresh))
            _search(lists, copies, fresh[start : start + NEW_AT_ONCE], threads)
        _search(lists, copies, lists.short(), threads)
        return lists

    def refilled(self, vectors: Vectors, threads: int = 1) -> "NeighbourLists":
        """The lists with those that are too short looked for anew; see `folded`."""
        return self.folded(vectors, np.zeros(len(self), bool), threads) if len(self.short()) else self


@dataclass(frozen=True)
class _Copies:
    """The vectors of a memory, of which equal ones are compared once: a camera may send the same frame for hours.

    Attributes:
        vectors: float32 [n, d].
        first: int64 [u], the row of each distinct vector that is the first with it, ascending.
        which: int64 [n], the distinct vector of each row.
    """

    vectors: Vectors
    first: Rows
    which: Rows

    @classmethod
    def of(cls, vectors: Vectors) -> "_Copies":
        found: dict[bytes, int] = {}
        digests = (blake2b(row.data, digest_size=16).digest() for row in vectors)
        which = np.array([found.setdefault(digest, len(found)) for digest in digests], np.int64)
        first = np.unique(which, return_index=True)[1]
        return cls(vectors, first, which)

    def products(self, some: Rows, others: Rows) -> Similarities:
        """The similarity of each of these rows to its other, float32 [pairs]."""
        keys = self.which[some] * len(self.first) + self.which[others]
        distinct, back = np.unique(keys, return_inverse=True)
        left, right = (self.first[each] for each in np.divmod(distinct, len(self.first)))
        found = np.empty(len(distinct), np.float32)
        step = max(1, GATHERED_BYTES // (self.vectors.shape[1] * self.vectors.itemsize))
        for start in range(0, len(distinct), step):
            part = slice(start, start + step)
            found[part] = np.vecdot(self.vectors[left[part]], self.vectors[right[part]])
        return np.clip(found, -1, 1)[back]

    def nearest(self, asked: Rows, threads: int) -> tuple[Similarities, Rows]:
        """The neighbours of some rows; see `nearest`."""
        if len(self.first) == len(self.which):
            return nearest(self.vectors[asked], self.vectors, MAX_NEIGHBOURS, asked, threads)
        distinct, back = np.unique(self.which[asked], return_inverse=True)
        # One more than is wanted, for each row is its own nearest here, and is left out at the end.
        one_of_each = self.vectors[self.first]
        near, rows = self._spread(*nearest(one_of_each[distinct], one_of_each, MAX_NEIGHBOURS + 1, threads=threads))
        near, rows = near[back], rows[back]
        last = (rows == asked[:, None]) | (rows == MISSING)
        order = np.argsort(last, axis=1, kind="stable")[:, :MAX_NEIGHBOURS]
        nobody = np.take_along_axis(last, order, 1)
        return (
            np.where(nobody, -1, np.take_along_axis(near, order, 1)),
            np.where(nobody, MISSING, np.take_along_axis(rows, order, 1)),
        )

    def _spread(self, similarities: Similarities, which: Rows) -> tuple[Similarities, Rows]:
        """Neighbours as rows instead of as distinct vectors, ties by row; [q, WIDTH + 1] both before and after."""
        width = which.shape[1]
        by_vector = np.argsort(self.which, kind="stable")
        number = np.bincount(self.which, minlength=len(self.first))
        start = np.cumsum(number) - number
        wide = np.full(which.shape, -1, np.float32), np.full(which.shape, MISSING, np.int64)
        for query, (near, found) in enumerate(zip(similarities, which, strict=True)):
            held = found[found != MISSING]
            sizes = np.minimum(number[held], width)
            last = min(int(np.searchsorted(np.cumsum(sizes), width)), len(held) - 1)
            end = int(np.searchsorted(-near[: len(held)], -near[last], side="right"))  # equals may have lower rows
            sizes = sizes[:end]
            offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            rows = by_vector[np.repeat(start[held[:end]], sizes) + offsets]
            spread = np.repeat(near[:end], sizes)
            order = np.lexsort((rows, -spread))[:width]
            wide[0][query, : len(order)], wide[1][query, : len(order)] = spread[order], rows[order]
        return wide


def _empty(size: int) -> NeighbourLists:
    return NeighbourLists(
        np.full((size, MAX_NEIGHBOURS), -1, np.float32), np.full((size, MAX_NEIGHBOURS), MISSING, np.int32)
    )


def _renumber(numbers: Rows, rows: ListRows) -> ListRows:
    """Rows by their new numbers; `MISSING` stays so."""
    return np.append(numbers, MISSING).astype(np.int32)[rows]


def _search(lists: NeighbourLists, copies: _Copies, asked: Rows, threads: int) -> None:
    """Look for the neighbours of some images anew; their lists are changed in place."""
    if len(asked):
        lists.similarities[asked], lists.rows[asked] = copies.nearest(asked, threads)


def _insert(lists: NeighbourLists, copies: _Copies, old: Rows, whole: Mask, new: Rows) -> None:
    """Put new images into the lists of old ones, wherever they come before the end of a list.

    Args:
        lists: of all images; those of `old` are changed in place.
        copies: the vectors of all.
        old: int64 [o].
        whole: [o], whether the list holds all others, so that everything belongs into it while it has places left.
        new: int64 [m].
    """
    similarities, rows = lists.similarities[old], lists.rows[old]
    lengths = (rows != MISSING).sum(axis=1)
    last = np.maximum(lengths - 1, 0)[:, None]
    bound = np.take_along_axis(similarities, last, 1)[:, 0]
    unbounded = whole & (lengths < MAX_NEIGHBOURS)
    bound[unbounded], bound[~unbounded & (lengths == 0)] = -np.inf, np.inf
    proposed = copies.vectors[old] @ copies.vectors[new].T >= (bound - SLACK)[:, None]
    place, number = np.nonzero(proposed)
    if not len(place):
        return
    found = copies.products(old[place], new[number])
    end = np.take_along_axis(rows, last, 1)[:, 0]
    belongs = (found > bound[place]) | ((found == bound[place]) & (new[number] < end[place]))
    place, number, found = place[belongs], number[belongs], found[belongs]
    changed, start, more = np.unique(place, return_index=True, return_counts=True)
    if not len(changed):
        return
    wider = MAX_NEIGHBOURS + int(more.max())
    merged = np.full((len(changed), wider), -np.inf, np.float32), np.full((len(changed), wider), MISSING, np.int32)
    merged[0][:, :MAX_NEIGHBOURS] = np.where(rows[changed] == MISSING, -np.inf, similarities[changed])
    merged[1][:, :MAX_NEIGHBOURS] = rows[changed]
    line = np.repeat(np.arange(len(changed)), more)
    column = MAX_NEIGHBOURS + np.arange(len(place)) - np.repeat(start, more)
    merged[0][line, column], merged[1][line, column] = found, new[number]
    order = np.lexsort((merged[1], -merged[0]))[:, :MAX_NEIGHBOURS]
    near, which = (np.take_along_axis(each, order, 1) for each in merged)
    lists.similarities[old[changed]] = np.where(which == MISSING, -1, near)
    lists.rows[old[changed]] = which
