"""Open, create, switch and discard the shards in an engine's folder.

``collection.json`` names the current shard and is replaced by a rename, so that a collection is created, or replaced by
its copy, as a whole or not at all. Any other shard is left over from a crash.
"""

import json
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.services.infrastructure.storage.disk_space import DELETE, FINISH, check_free_space
from visual_memory.services.infrastructure.storage.fsync import sync

CLOSE_SECONDS = 10.0
"""How long `close` waits for the users of a shard."""

READ_AT_ONCE = 2**20


@dataclass(eq=False)
class Shard:
    """An open shard and the number of its current users."""

    folder: Path
    engine: edge.EdgeShard
    users: int = 0


class ShardFiles:
    """The shards in a folder that only this process uses.

    Args:
        folder: contains the shards.
        floor: bytes that must stay free on its disk, see `services.infrastructure.storage.disk_space`.

    Attributes:
        changes: number of changes of the collection's named vectors.
    """

    def __init__(self, folder: Path, floor: int) -> None:
        self._folder = folder
        self._floor = floor
        self._file = folder / "collection.json"
        self._condition = threading.Condition()
        self._current: Shard | None = None
        self._closed = False
        self._recorded: Any = json.loads(self._file.read_text()) if self._file.exists() else None
        self.changes = 0
        self._remove_leftovers()
        if self._file.exists():
            with suppress(OutOfSpace):  # it is opened later, when there is enough free space
                self._open()

    def vectors(self) -> dict[str, int] | None:
        """Names and sizes of the collection's vectors; None before it is created."""
        return None if self._recorded is None else dict(self._recorded["vectors"])

    def add_vector(self, name: str, size: int) -> None:
        """Add vectors of a new name to the collection; the caller has the write lock.

        ``collection.json`` is written last: after a kill before that, they are removed when the shard is opened.
        """
        with self.use() as shard:
            self.changes += 1
            shard.engine.update(edge.UpdateOperation.delete_vector_name(name))  # left over if a sync was lost
            shard.engine.update(edge.UpdateOperation.create_dense_vector(name, size, edge.Distance.Cosine))
            sync_shard(shard)
            self._record(shard, {**self._recorded["vectors"], name: size})

    def drop_vector(self, name: str) -> None:
        """Remove the vectors of a name from the collection; the caller has the write lock.

        ``collection.json`` is written first: after a kill after that, they are removed when the shard is opened.
        """
        with self.use() as shard:
            self.changes += 1
            if name in (vectors := self._recorded["vectors"]):
                self._record(shard, {other: size for other, size in vectors.items() if other != name})
            shard.engine.update(edge.UpdateOperation.delete_vector_name(name))
            shard.engine.flush()

    def require_space(self, share: float, size: int = 0) -> None:
        """Check that the disk has free space for `size` bytes and a share of the floor.

        Raises:
            OutOfSpace: it does not.
        """
        check_free_space(self._folder, self._floor * share, size)

    @contextmanager
    def use(self) -> Iterator[Shard]:
        """The collection's shard, opened if necessary; it stays open until the context ends.

        Raises:
            OutOfSpace: the disk does not have enough free space to open it.
            Unavailable: the collection is not created yet, or closed.
        """
        with self._condition:
            shard = self._open()
            shard.users += 1
        try:
            yield shard
        finally:
            with self._condition:
                shard.users -= 1
                self._condition.notify_all()

    def make(self, vectors: Mapping[str, int]) -> Shard:
        """Create an empty shard; `switch` makes it the collection's."""
        folder = self._folder / f"shard-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            return Shard(folder, edge.EdgeShard.create(str(folder), shard_config(vectors)))
        except BaseException:
            shutil.rmtree(folder)
            raise

    def rebuild(self, shard: Shard, build: Callable[[Path], None]) -> None:
        """Close a shard that has no users, let `build` change its files, and open it again."""
        shard.engine.close()
        build(shard.folder)
        shard.engine = _load(shard.folder)

    def switch(self, shard: Shard, vectors: Mapping[str, int]) -> None:
        """Make a shard durable, and make it the collection's."""
        sync_shard(shard)
        self._record(shard, vectors)

    def discard(self, shard: Shard) -> None:
        """Close and delete a shard when it has no users; do nothing if it is the collection's."""
        with self._condition:
            if shard is self._current:
                return
            self._condition.wait_for(lambda: shard.users == 0)
        shard.engine.close()
        shutil.rmtree(shard.folder)
        sync(self._folder)

    def close(self) -> None:
        """Flush and close the collection's shard when it has no users or after `CLOSE_SECONDS`."""
        with self._condition:
            self._closed = True
            shard = self._current
            if shard is None:
                return
            self._condition.wait_for(lambda: shard.users == 0, CLOSE_SECONDS)
        with suppress(OutOfSpace):  # the log has the missing writes
            self.require_space(DELETE)
            shard.engine.flush()
        shard.engine.close()

    def _open(self) -> Shard:
        if self._closed:
            raise Unavailable("the store is ending; send it again")
        if self._current is None:
            if self._recorded is None:
                raise Unavailable("the collection is not created yet")
            self.require_space(FINISH)
            folder = self._folder / self._recorded["shard"]
            shard = Shard(folder, _load(folder))
            _drop_unrecorded(shard, self._recorded["vectors"])
            self._current = shard
        return self._current

    def _record(self, shard: Shard, vectors: Mapping[str, int]) -> None:
        """Write a shard and its named vectors to ``collection.json``, durably."""
        record = {"shard": shard.folder.name, "vectors": dict(vectors)}
        sync(self._folder)
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(record))
        sync(temporary)
        with self._condition:
            temporary.replace(self._file)
            self._recorded = record
            self._current = shard
        sync(self._folder)

    def _remove_leftovers(self) -> None:
        for folder in self._folder.glob("shard-*"):
            if self._recorded is None or folder.name != self._recorded["shard"]:
                shutil.rmtree(folder)
        sync(self._folder)


def _load(folder: Path) -> edge.EdgeShard:
    """Open a shard after reading its files into the page cache: Edge blocks all other threads while it reads them."""
    buffer = bytearray(READ_AT_ONCE)
    for path in filter(Path.is_file, (folder / "segments").rglob("*")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return edge.EdgeShard.load(str(folder))


def _drop_unrecorded(shard: Shard, vectors: Collection[str]) -> None:
    """Remove vectors that the collection does not have: left over from a change that was killed."""
    config = json.loads((shard.folder / "edge_config.json").read_text())
    others = config["vectors"].keys() - {*vectors}
    for name in others:
        shard.engine.update(edge.UpdateOperation.delete_vector_name(name))
    if others:
        shard.engine.flush()


def shard_config(vectors: Mapping[str, int], **further: Any) -> edge.EdgeConfig:
    """The configuration of a shard with these named vectors.

    Each caller's search runs in one thread: more threads take twice the processor time and are not faster. Payloads are
    kept in the page cache like the vectors, because every search reads some.
    """
    params = {name: edge.EdgeVectorParams(size, edge.Distance.Cosine) for name, size in vectors.items()}
    return edge.EdgeConfig(vectors=params, max_search_threads=1, payload_memory=edge.Memory.Cached, **further)


def sync_shard(shard: Shard) -> None:
    """Make all files of a shard durable."""
    shard.engine.flush()
    for path in (*shard.folder.rglob("*"), shard.folder):
        with suppress(FileNotFoundError):  # the next log file, which is created under another name in the background
            sync(path)
