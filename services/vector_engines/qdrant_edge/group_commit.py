"""How what is written to the embedded engine becomes durable: its log at once, its segments now and then."""

import logging
import threading
import time
from collections.abc import Callable

from visual_memory.schemas.errors import OutOfSpace
from visual_memory.services.infrastructure.storage.disk_space import DELETE, translate_full_disk
from visual_memory.services.infrastructure.storage.fsync import sync
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shards

FLUSH_SECONDS = 2.0
FLUSH_REST = 4
"""How long to wait between two flushes: at least so many times as long as the last one took, for nobody else gets
anything done meanwhile; on a busy disk one took 0.8 s."""
log = logging.getLogger(__name__)


class GroupCommit:
    """One sync for many writers: each waits for the first sync that began after its write.

    Args:
        sync: makes durable all that was written before it was called.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._turn = threading.Condition()
        self._begun = 0
        self._done = 0
        self._busy = False

    def __call__(self) -> None:
        """Return once a sync that began after this call has ended well; raise what the own sync raises."""
        with self._turn:
            needed = self._begun + 1
            while self._done < needed:
                if self._busy:
                    self._turn.wait()
                else:
                    self._lead()

    def _lead(self) -> None:
        self._begun += 1
        number, self._busy = self._begun, True
        self._turn.release()
        try:
            with translate_full_disk():
                self._sync()
        except BaseException:
            number = 0  # those who wait for it must sync for themselves
            raise
        finally:
            self._turn.acquire()
            self._done, self._busy = max(self._done, number), False
            self._turn.notify_all()


class Flushing:
    """Makes the collection's log durable when asked, and writes its segments in a thread of its own.

    Args:
        shards: the engine's.
        ending: set when the engine is closed.
    """

    def __init__(self, shards: Shards, ending: threading.Event) -> None:
        self._shards = shards
        self._ending = ending
        self._unflushed = threading.Event()
        self._thread = threading.Thread(target=self._flush_now_and_then, name="flusher", daemon=True)
        self._thread.start()

    def sync_log(self) -> None:
        """Make the write-ahead log durable: what it holds is applied again when the shard is loaded.

        `flush` would write the segments too, which takes 40 times as long with a dozen payload indexes.
        """
        self._unflushed.set()
        with self._shards.use() as shard:
            folder = shard.folder / "wal"
            logs = list(folder.glob("open-*"))
            if not logs:  # another version of the engine, with another layout
                shard.engine.flush()
                return
            try:
                for place in (*logs, folder):
                    sync(place)
            except FileNotFoundError:  # the engine has filled one at this moment, and renamed it
                shard.engine.flush()

    def join(self) -> None:
        """Wait until its thread has ended."""
        self._thread.join()

    def _flush_now_and_then(self) -> None:
        """Write the segments, so that the log stays short."""
        pause = FLUSH_SECONDS
        while not self._ending.wait(pause):
            begun = time.monotonic()
            if self._unflushed.is_set():
                self._unflushed.clear()
                try:
                    self._shards.need(DELETE)
                    with self._shards.use() as shard:
                        shard.engine.flush()
                except OutOfSpace as error:
                    self._unflushed.set()
                    log.warning("the segments are not written, the log holds what they lack: %s", error)
                except Exception:
                    self._unflushed.set()
                    log.exception("the segments could not be written; the log holds what they lack")
            pause = max(FLUSH_SECONDS, FLUSH_REST * (time.monotonic() - begun))
