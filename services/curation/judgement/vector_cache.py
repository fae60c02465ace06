"""Vectors at hand in the process that judges, so that a few new images do not cost reading those of all others."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from visual_memory.services.curation.judgement.judgement_input import Digests
from visual_memory.services.curation.judgement.neighbour_lists import Mask
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.exact_neighbours import Rows


@dataclass(frozen=True)
class CachedVectors:
    """The vectors of one memory.

    Attributes:
        pictures: uint64 [n], ascending, of which images; see `JudgedImages`.
        rows: int64 [n], the row of each image's vector.
        vectors: float32 [n, d].
    """

    pictures: Digests
    rows: Rows
    vectors: Vectors

    def knows(self, pictures: Digests) -> Mask:
        """Whether the vector of each of some images is among them; [m]."""
        return np.isin(pictures, self.pictures)

    def fill(self, pictures: Digests, vectors: Vectors) -> None:
        """Fill in the vectors that are among them.

        Args:
            pictures: uint64 [m], of which images.
            vectors: float32 [m, d], changed in place where they are known.
        """
        known = self.knows(pictures)
        if known.any():
            vectors[known] = self.vectors[self.rows[np.searchsorted(self.pictures, pictures[known])]]


NOTHING = CachedVectors(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty((0, 0), np.float32))


class VectorCache:
    """The vectors of the memories that were judged last, as many as fit; never written to a disk. For many threads.

    Args:
        max_bytes: of all vectors together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, CachedVectors] = OrderedDict()
        self._changing = threading.Lock()

    def held(self, tenant: str) -> CachedVectors:
        """The vectors of a tenant's memory; they stay as they are, whatever is kept afterwards."""
        return self._held.get(tenant, NOTHING)

    def keep(self, tenant: str, pictures: Digests, vectors: Vectors) -> None:
        """Hold these vectors instead of those that were held of this tenant, as far as there is room."""
        with self._changing:
            self._held.pop(tenant, None)
            if not 0 < vectors.nbytes <= self._max_bytes:
                return
            rows = np.argsort(pictures)
            self._held[tenant] = CachedVectors(pictures[rows], rows, vectors)
            while sum(each.vectors.nbytes for each in self._held.values()) > self._max_bytes:
                self._held.popitem(last=False)
