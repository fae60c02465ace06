"""Rewrite the embedded collection while it is in use: leave out deleted points, build an index.

The engine itself only marks points as deleted: its optimiser skips small segments, and its log keeps old records.
"""

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.services.infrastructure.storage.disk_space import NEW
from visual_memory.services.vector_engines.qdrant_edge.exclusive_writes import WriteTracker
from visual_memory.services.vector_engines.qdrant_edge.index_builder import IndexFailed, build_index
from visual_memory.services.vector_engines.qdrant_edge.index_schedule import index_is_due, index_pays
from visual_memory.services.vector_engines.qdrant_edge.shard_copy import ShardCopy
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard, ShardFiles, sync_shard

ROUNDS = 10
FEW = 100
"""Points written meanwhile are copied again in at most `ROUNDS` rounds, until a round has fewer than `FEW` of them."""
BLOCK = 512
"""Bytes in a block of `os.stat`."""
LONGEST_LOG = 128 * 2**20
"""Bytes; the engine keeps a closed file of 32 MiB, one in use, one ahead, and all writes since the last flush."""
log = logging.getLogger(__name__)


class VectorsChanged(Exception):
    """The named vectors of the collection have changed since the copy was begun."""


class Compactor:
    """Copies the live points into a new shard that replaces the old one; one copy at a time.

    Args:
        shards: the shards of the engine.
        writes: blocked while the last points are copied.
        ending: set when the engine is closed, which stops a copy.
    """

    def __init__(self, shards: ShardFiles, writes: WriteTracker, ending: threading.Event) -> None:
        self._shards = shards
        self._writes = writes
        self._ending = ending
        self._lock = threading.Lock()
        self._changes = 0

    def erase(self) -> None:
        """Erase deleted and overwritten data; build an index if it pays and can be built.

        Raises:
            OutOfSpace: there is not enough free space for the copy.
            Unavailable: the engine is closing.
        """
        with self._lock:
            try:
                self._rewrite()
            except (IndexFailed, OutOfSpace):  # erase even without an index
                log.exception("the collection is compacted without an index")
                self._rewrite(index=False)

    def index(self) -> None:
        """Rebuild the index if it is due.

        Raises:
            IndexFailed: it could not be built.
            OutOfSpace: there is not enough free space for the copy and an index.
            Unavailable: the engine is closing.
        """
        with self._lock:
            if self.is_due():
                self._rewrite()

    def is_due(self) -> bool:
        """Whether the index lacks too many points."""
        vectors = self._shards.vectors()
        if vectors is None:
            return False
        with self._shards.use() as shard:
            return index_is_due(shard, vectors, self._writes.unindexed())

    def _rewrite(self, *, index: bool = True) -> None:
        """Copy; start again if the named vectors of the collection change meanwhile, which is rare."""
        while not self._is_rewritten(index=index):
            log.info("the collection's vectors changed while it was copied: copying it again")

    def _is_rewritten(self, *, index: bool) -> bool:
        """Copy; False if the copy is outdated."""
        with self._writes.lock:
            self._changes, vectors = self._shards.changes, self._shards.vectors()
        if vectors is None:
            return True
        with self._shards.use() as old:
            index = index and index_pays(old, vectors)
            self._shards.require_space(NEW, _size_of_copy(old.folder) * (1 + index))
            new = self._shards.make(vectors)
            try:
                self._exchange(old, new, vectors, index=index)
            except BaseException as error:
                self._shards.discard(new)
                if isinstance(error, Exception) and self._is_outdated() and not self._ending.is_set():
                    return False  # maybe a point had vectors that the copy does not have
                raise
        self._shards.discard(old)
        return True

    def _exchange(self, old: Shard, new: Shard, vectors: Mapping[str, int], *, index: bool) -> None:
        """Copy while others write, then copy what they wrote, and the last of it while they wait."""
        copy = ShardCopy(old.engine, new.engine, self._check_stop)
        copy.indexes()  # before the points, because the graph uses them
        with self._writes.tracked():
            copy.all()
            if index:
                self._shards.rebuild(new, lambda folder: build_index(folder, vectors, self._check_stop))
                copy = ShardCopy(old.engine, new.engine, self._check_stop)
            self._catch_up(copy)
            sync_shard(new)  # so that writers wait only briefly
            with self._writes.lock:
                self._check_stop()  # the named vectors cannot change from here on
                copy.again(self._writes.take_tracked())
                copy.indexes()
                self._shards.switch(new, vectors)
                self._writes.note_switch()

    def _catch_up(self, copy: ShardCopy) -> None:
        for _ in range(ROUNDS):
            with self._writes.lock:
                written = self._writes.take_tracked()
            copy.again(written)
            if len(written) < FEW:
                return

    def _check_stop(self) -> None:
        if self._ending.is_set():
            raise Unavailable("the store ends in the middle of the compaction; send it again")
        if self._is_outdated():
            raise VectorsChanged
        self._shards.require_space(NEW)

    def _is_outdated(self) -> bool:
        return self._shards.changes != self._changes


def _size_of_copy(folder: Path) -> int:
    """Bytes that the copy of a shard may take: its segments, and the log of its writes."""
    segments = 0
    for path in (folder / "segments").rglob("*"):
        with suppress(FileNotFoundError):  # a temporary file that the engine has renamed meanwhile
            segments += path.stat().st_blocks * BLOCK
    return segments + min(segments, LONGEST_LOG)
