"""Vectors at hand in the process that judges, so that a few new images do not cost reading those of all others."""

from collections import OrderedDict

import numpy as np

from services.curation.judged_images import Digests
from services.decision.neighbour_lists import Mask
from services.decision.neighbours import Rows
from services.memory.engine import Vectors


class VectorCache:
    """The vectors of the memories that were judged last, as many as there is room for; never written to a disk.

    Args:
        max_bytes: of all vectors together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, tuple[Digests, Rows, Vectors]] = OrderedDict()

    def knows(self, tenant: str, pictures: Digests) -> Mask:
        """Whether the vector of each of some images is at hand; [n]."""
        held = self._held.get(tenant)
        return np.zeros(len(pictures), bool) if held is None else np.isin(pictures, held[0])

    def fill(self, tenant: str, pictures: Digests, vectors: Vectors) -> None:
        """Fill in the vectors that are at hand.

        Args:
            tenant: whose.
            pictures: uint64 [n], of which images; see `JudgedImages`.
            vectors: float32 [n, d], filled in where they are known.
        """
        known = self.knows(tenant, pictures)
        if known.any():
            held, order, rows = self._held[tenant]
            vectors[known] = rows[order[np.searchsorted(held, pictures[known])]]

    def keep(self, tenant: str, pictures: Digests, vectors: Vectors) -> None:
        """Hold these vectors instead of those that were held of this tenant, as far as there is room."""
        self._held.pop(tenant, None)
        if not 0 < vectors.nbytes <= self._max_bytes:
            return
        order = np.argsort(pictures)
        self._held[tenant] = pictures[order], order, vectors
        while sum(rows.nbytes for *_, rows in self._held.values()) > self._max_bytes:
            self._held.popitem(last=False)
