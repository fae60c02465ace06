"""The embedded engine's collection written anew, while others use it: what was deleted is left out, an index is built.

The engine itself only marks what is deleted: its optimiser skips small segments, and its log keeps old records.
"""

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.services.infrastructure.storage.disk_space import NEW
from visual_memory.services.vector_engines.qdrant_edge.index_builder import IndexFailed, build_index
from visual_memory.services.vector_engines.qdrant_edge.index_schedule import index_is_due, index_pays
from visual_memory.services.vector_engines.qdrant_edge.shard_copy import Copy
from visual_memory.services.vector_engines.qdrant_edge.shard_files import Shard, Shards, settle
from visual_memory.services.vector_engines.qdrant_edge.write_tracker import Writes

ROUNDS = 10
FEW = 100
"""What was written meanwhile is copied in rounds, until it is few points or that was done so many times."""
BLOCK = 512
"""Bytes of a block, as `os.stat` counts them."""
LONGEST_LOG = 128 * 2**20
"""Bytes; the engine keeps one closed file of 32 MiB, one in use, one ahead, and what came since the last flush."""
log = logging.getLogger(__name__)


class Outdated(Exception):
    """The named vectors of the collection are others than those of the copy."""


class Rewriting:
    """Copies what lives into a new shard and lets it take the old one's place; one at a time.

    Args:
        shards: the engine's.
        writes: held up for the last of the copy.
        ending: set when the engine is closed, which breaks a copy off.
    """

    def __init__(self, shards: Shards, writes: Writes, ending: threading.Event) -> None:
        self._shards = shards
        self._writes = writes
        self._ending = ending
        self._turn = threading.Lock()
        self._changes = 0

    def erase(self) -> None:
        """Leave out what was deleted or overwritten; with an index where it pays and can be built.

        Raises:
            OutOfSpace: there is no room for the copy.
            Unavailable: the engine ends.
        """
        with self._turn:
            try:
                self._rewrite()
            except (IndexFailed, OutOfSpace):  # no reason to keep what was to be erased
                log.exception("the collection is compacted without an index")
                self._rewrite(index=False)

    def index(self) -> None:
        """Build the index anew, where it is due.

        Raises:
            IndexFailed: it could not be built.
            OutOfSpace: there is no room for the copy and an index.
            Unavailable: the engine ends.
        """
        with self._turn:
            if self.is_due():
                self._rewrite()

    def is_due(self) -> bool:
        """Whether too many points are outside of the index."""
        vectors = self._shards.vectors()
        if vectors is None:
            return False
        with self._shards.use() as shard:
            return index_is_due(shard, vectors, self._writes.outside())

    def _rewrite(self, *, index: bool = True) -> None:
        """Copy; anew where the named vectors of the collection are changed meanwhile, which is seldom."""
        while not self._is_rewritten(index=index):
            log.info("the collection's vectors were changed while it was copied: it is copied anew")

    def _is_rewritten(self, *, index: bool) -> bool:
        """Copy; False where the copy is of no use any more."""
        with self._writes.turn:
            self._changes, vectors = self._shards.changes, self._shards.vectors()
        if vectors is None:
            return True
        with self._shards.use() as old:
            index = index and index_pays(old, vectors)
            self._shards.need(NEW, _size_of_copy(old.folder) * (1 + index))
            new = self._shards.make(vectors)
            try:
                self._exchange(old, new, vectors, index=index)
            except BaseException as error:
                self._shards.discard(new)
                if isinstance(error, Exception) and self._is_outdated() and not self._ending.is_set():
                    return False  # it may be a point with vectors that the copy does not know
                raise
        self._shards.discard(old)
        return True

    def _exchange(self, old: Shard, new: Shard, vectors: Mapping[str, int], *, index: bool) -> None:
        """Copy while others write, then what they wrote, then the last of it while they wait."""
        copy = Copy(old.engine, new.engine, self._may_go_on)
        copy.indexes()  # before the points, and before a graph is built by them
        with self._writes.followed():
            copy.all()
            if index:
                self._shards.rebuild(new, lambda folder: build_index(folder, vectors, self._may_go_on))
                copy = Copy(old.engine, new.engine, self._may_go_on)
            self._catch_up(copy)
            settle(new)  # so that little is left to do while they wait
            with self._writes.turn:
                self._may_go_on()  # from here on nobody changes the named vectors
                copy.again(self._writes.take())
                copy.indexes()
                self._shards.switch(new, vectors)
                self._writes.exchanged()

    def _catch_up(self, copy: Copy) -> None:
        for _ in range(ROUNDS):
            with self._writes.turn:
                touched = self._writes.take()
            copy.again(touched)
            if len(touched) < FEW:
                return

    def _may_go_on(self) -> None:
        if self._ending.is_set():
            raise Unavailable("the store ends in the middle of the compaction; send it again")
        if self._is_outdated():
            raise Outdated
        self._shards.need(NEW)

    def _is_outdated(self) -> bool:
        return self._shards.changes != self._changes


def _size_of_copy(folder: Path) -> int:
    """Bytes that the copy of a shard may take: its segments, and a log of what is put into it."""
    segments = 0
    for place in (folder / "segments").rglob("*"):
        with suppress(FileNotFoundError):  # a draft of the engine's, which has got its name meanwhile
            segments += place.stat().st_blocks * BLOCK
    return segments + min(segments, LONGEST_LOG)
