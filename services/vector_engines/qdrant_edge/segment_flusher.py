"""Make the engine's write-ahead log durable at once, and write its segments every few seconds."""

import logging
import threading
import time

from visual_memory.schemas.errors import OutOfSpace
from visual_memory.services.infrastructure.storage.disk_space import DELETE
from visual_memory.services.infrastructure.storage.fsync import sync
from visual_memory.services.vector_engines.qdrant_edge.shard_files import ShardFiles

FLUSH_SECONDS = 2.0
FLUSH_REST = 4
"""The pause after a flush, as a multiple of its duration: a flush blocks all other calls, 0.8 s on a busy disk."""

log = logging.getLogger(__name__)


class SegmentFlusher:
    """Makes the collection's log durable on request, and writes its segments in a thread.

    Args:
        shards: the shards of the engine.
        ending: set when the engine is closed.
    """

    def __init__(self, shards: ShardFiles, ending: threading.Event) -> None:
        self._shards = shards
        self._ending = ending
        self._unflushed = threading.Event()
        self._thread = threading.Thread(target=self._flush_periodically, name="flusher", daemon=True)
        self._thread.start()

    def sync_log(self) -> None:
        """Make the write-ahead log durable; it is replayed when the shard is loaded.

        `flush` also writes the segments, which takes 40 times as long with a dozen payload indexes.
        """
        self._unflushed.set()
        with self._shards.use() as shard:
            folder = shard.folder / "wal"
            logs = list(folder.glob("open-*"))
            if not logs:  # another version of the engine, with another layout
                shard.engine.flush()
                return
            try:
                for path in (*logs, folder):
                    sync(path)
            except FileNotFoundError:  # the engine has just filled a file and renamed it
                shard.engine.flush()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _flush_periodically(self) -> None:
        """Write the segments, so that the log stays short."""
        pause = FLUSH_SECONDS
        while not self._ending.wait(pause):
            begun = time.monotonic()
            if self._unflushed.is_set():
                self._unflushed.clear()
                try:
                    self._shards.require_space(DELETE)
                    with self._shards.use() as shard:
                        shard.engine.flush()
                except OutOfSpace as error:
                    self._unflushed.set()
                    log.warning("the segments are not written, the log has the missing writes: %s", error)
                except Exception:
                    self._unflushed.set()
                    log.exception("the segments could not be written, the log has the missing writes")
            pause = max(FLUSH_SECONDS, FLUSH_REST * (time.monotonic() - begun))
