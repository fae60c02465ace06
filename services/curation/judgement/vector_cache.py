"""Cache vectors in the process that judges, so that a few new images do not require reading those of all others."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from visual_memory.services.curation.judgement.judgement_input import Digests
from visual_memory.services.curation.judgement.neighbour_lists import Mask
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.brute_force_neighbours import Rows


@dataclass(frozen=True)
class CachedVectors:
    """The cached vectors of one memory.

    Attributes:
        pictures: uint64 [n], ascending: digests that identify the images, see `JudgementInput`.
        rows: int64 [n], the row of each image's vector.
        vectors: float32 [n, d].
    """

    pictures: Digests
    rows: Rows
    vectors: Vectors

    def has(self, pictures: Digests) -> Mask:
        """Whether the vector of each picture is cached; [m]."""
        return np.isin(pictures, self.pictures)

    def fill(self, pictures: Digests, vectors: Vectors) -> None:
        """Copy cached vectors.

        Args:
            pictures: uint64 [m], digests that identify the images.
            vectors: float32 [m, d], changed in place for the images whose vector is cached.
        """
        cached = self.has(pictures)
        if cached.any():
            vectors[cached] = self.vectors[self.rows[np.searchsorted(self.pictures, pictures[cached])]]


EMPTY = CachedVectors(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty((0, 0), np.float32))


class VectorCache:
    """The vectors of the memories that were judged last, within a limit; only in main memory. Thread-safe.

    Args:
        max_bytes: the limit for all vectors together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._cached: OrderedDict[str, CachedVectors] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tenant: str) -> CachedVectors:
        """The vectors of a tenant's memory; later calls of `put` do not change them."""
        return self._cached.get(tenant, EMPTY)

    def put(self, tenant: str, pictures: Digests, vectors: Vectors) -> None:
        """Replace a tenant's vectors, and evict those of the tenants judged longest ago if the limit is exceeded."""
        with self._lock:
            self._cached.pop(tenant, None)
            if not 0 < vectors.nbytes <= self._max_bytes:
                return
            rows = np.argsort(pictures)
            self._cached[tenant] = CachedVectors(pictures[rows], rows, vectors)
            while sum(each.vectors.nbytes for each in self._cached.values()) > self._max_bytes:
                self._cached.popitem(last=False)
