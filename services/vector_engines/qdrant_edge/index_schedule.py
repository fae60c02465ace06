"""When the embedded engine builds an index: what is outside of it is compared point by point."""

import logging
import threading
from collections.abc import Callable, Mapping

import qdrant_edge as edge

from visual_memory.services.vector_engines.hnsw_parameters import SCANNED
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard
from visual_memory.services.vector_engines.qdrant_edge.write_tracker import Writes

LOOK_SECONDS = 30.0
REST_SECONDS = 3600.0
"""How often to ask whether an index is due, and how long after one that could not be built."""
BUSY = 10_000
MOST_PUT_OFF = 10
"""While more points than that are written from one look to the next, only every tenth look counts: an index would take
the cores from those who write, and be too small when it is done."""
PLAIN_PART = 5
"""An index is due when more than `SCANNED` is outside of it, and a fifth of the points within: all that is compared."""
BYTES = 4
"""Of a number in a vector."""
log = logging.getLogger(__name__)


class IndexSchedule:
    """Asks for an index now and then, in a thread of its own, until the engine ends.

    Args:
        build: builds the index, where it is due.
        writes: while much is written, it waits.
        ending: set when the engine is closed.
    """

    def __init__(self, build: Callable[[], None], writes: Writes, ending: threading.Event) -> None:
        self._build = build
        self._writes = writes
        self._ending = ending
        self._seen = 0
        self._put_off = 0
        self._thread = threading.Thread(target=self._build_now_and_then, name="indexer", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _build_now_and_then(self) -> None:
        pause = LOOK_SECONDS
        while not self._ending.wait(pause):
            if self._is_put_off():
                continue
            try:
                self._build()
            except Exception as error:
                if self._ending.is_set():
                    return
                pause = REST_SECONDS
                log.warning("no index is built, every search compares what is outside: %s", error, exc_info=error)
            else:
                pause = LOOK_SECONDS

    def _is_put_off(self) -> bool:
        before, self._seen = self._seen, self._writes.outside()
        self._put_off = self._put_off + 1 if self._seen - before > BUSY else 0
        return self._put_off % MOST_PUT_OFF > 0


def index_is_due(shard: Shard, vectors: Mapping[str, int], written: int) -> bool:
    """Whether too many points are outside of a shard's index.

    Args:
        shard: must stay open meanwhile.
        vectors: names of its vectors with their sizes.
        written: how many points were written since it was opened, all of them outside.
    """
    info = shard.engine.info()
    indexed = info.indexed_vectors_count  # of all names; those that were deleted or moved since are among them
    within = indexed // len(vectors)
    if not _are_too_many(max(written, info.points_count * len(vectors) - indexed), within, vectors):
        return False  # without counting
    embedded = sum(_embedded(shard, name) for name in vectors)
    return _are_too_many(max(written, embedded - indexed), within, vectors)


def index_pays(shard: Shard, vectors: Mapping[str, int]) -> bool:
    """Whether a shard has so many points with a vector that an index over all of them is due."""
    return _are_too_many(max(_embedded(shard, name) for name in vectors), 0, vectors)


def _are_too_many(outside: int, indexed: int, vectors: Mapping[str, int]) -> bool:
    return outside * BYTES * max(vectors.values()) > SCANNED * 1024 and outside * PLAIN_PART > indexed


def _embedded(shard: Shard, vector: str) -> int:
    """How many points have the vector of a name."""
    some = edge.Filter(must=[edge.HasVectorCondition(vector)])
    return shard.engine.count(edge.CountRequest(exact=True, filter=some))
