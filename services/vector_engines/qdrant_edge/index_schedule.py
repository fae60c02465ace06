"""Decide when the embedded engine builds its index: points without one are compared one by one."""

import logging
import threading
from collections.abc import Callable, Mapping

import qdrant_edge as edge

from visual_memory.services.vector_engines.hnsw_parameters import FULL_SCAN_KIB
from visual_memory.services.vector_engines.qdrant_edge.exclusive_writes import WriteTracker
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard

LOOK_SECONDS = 30.0
REST_SECONDS = 3600.0
"""How often to check whether an index is due, and the pause after a build that failed."""
BUSY = 10_000
MAX_POSTPONED = 10
"""While more than `BUSY` points are written between two checks, only every tenth check counts: a build would take
processor time from the writers, and the index would lack too many points when it is done."""
PLAIN_PART = 5
"""An index is due when the vectors that it lacks exceed `FULL_SCAN_KIB` and a fifth of those it has."""
BYTES = 4
"""Bytes of a number in a vector."""
log = logging.getLogger(__name__)


class IndexSchedule:
    """Triggers index builds periodically in a thread, until the engine is closed.

    Args:
        build: builds the index if it is due.
        writes: builds are postponed while there are many.
        ending: set when the engine is closed.
    """

    def __init__(self, build: Callable[[], None], writes: WriteTracker, ending: threading.Event) -> None:
        self._build = build
        self._writes = writes
        self._ending = ending
        self._seen = 0
        self._postponed = 0
        self._thread = threading.Thread(target=self._build_periodically, name="indexer", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _build_periodically(self) -> None:
        pause = LOOK_SECONDS
        while not self._ending.wait(pause):
            if self._is_postponed():
                continue
            try:
                self._build()
            except Exception as error:
                if self._ending.is_set():
                    return
                pause = REST_SECONDS
                log.warning(
                    "the index was not built, every search compares the points that it lacks: %s", error, exc_info=error
                )
            else:
                pause = LOOK_SECONDS

    def _is_postponed(self) -> bool:
        before, self._seen = self._seen, self._writes.unindexed()
        self._postponed = self._postponed + 1 if self._seen - before > BUSY else 0
        return self._postponed % MAX_POSTPONED > 0


def index_is_due(shard: Shard, vectors: Mapping[str, int], written: int) -> bool:
    """Whether a shard's index lacks too many points.

    Args:
        shard: must stay open meanwhile.
        vectors: names and sizes of its vectors.
        written: number of points written since it was opened; the index lacks all of them.
    """
    info = shard.engine.info()
    indexed = info.indexed_vectors_count  # of all names, with points deleted or moved since
    within = indexed // len(vectors)
    if not _are_too_many(max(written, info.points_count * len(vectors) - indexed), within, vectors):
        return False  # decided without counting
    embedded = sum(_embedded(shard, name) for name in vectors)
    return _are_too_many(max(written, embedded - indexed), within, vectors)


def index_pays(shard: Shard, vectors: Mapping[str, int]) -> bool:
    """Whether a shard has enough points with a vector for an index to pay."""
    return _are_too_many(max(_embedded(shard, name) for name in vectors), 0, vectors)


def _are_too_many(outside: int, indexed: int, vectors: Mapping[str, int]) -> bool:
    return outside * BYTES * max(vectors.values()) > FULL_SCAN_KIB * 1024 and outside * PLAIN_PART > indexed


def _embedded(shard: Shard, vector: str) -> int:
    """Number of points that have the vector of a name."""
    some = edge.Filter(must=[edge.HasVectorCondition(vector)])
    return shard.engine.count(edge.CountRequest(exact=True, filter=some))
