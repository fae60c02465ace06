"""The shards in an engine's folder: one is the collection; others are in the making, or on their way out.

``collection.json`` names the one that counts and is replaced by rename, so a collection is made, or exchanged for its
copy, as a whole or not at all. Whatever it does not name is rubbish of a crash.
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

LAST_CALL = 10.0
"""Seconds that those who use a shard have to end before it is closed at the very end."""

READ_AT_ONCE = 2**20


@dataclass(eq=False)
class Shard:
    """An open shard, with the number of those who use it at this moment."""

    folder: Path
    engine: edge.EdgeShard
    users: int = 0


class Shards:
    """The shards in a folder that this process holds alone.

    Args:
        folder: where they are.
        floor: bytes that must stay free on its disk, see `services.infrastructure.storage.disk_space`.

    Attributes:
        changes: how often the collection's named vectors were changed.
    """

    def __init__(self, folder: Path, floor: int) -> None:
        self._folder = folder
        self._floor = floor
        self._file = folder / "collection.json"
        self._turn = threading.Condition()
        self._current: Shard | None = None
        self._closed = False
        self._held: Any = json.loads(self._file.read_text()) if self._file.exists() else None
        self.changes = 0
        self._remove_leftovers()
        if self._file.exists():
            with suppress(OutOfSpace):  # then it is opened once there is room
                self._open()

    def vectors(self) -> dict[str, int] | None:
        """The collection's named vectors with their sizes; None before it is made."""
        return None if self._held is None else dict(self._held["vectors"])

    def add_vector(self, name: str, size: int) -> None:
        """Let the collection have vectors of another name, which it has not; while nobody else writes.

        ``collection.json`` names them last: killed before, they are taken back when the shard is opened.
        """
        with self.use() as shard:
            self.changes += 1
            shard.engine.update(edge.UpdateOperation.delete_vector_name(name))  # what a lost sync may have left
            shard.engine.update(edge.UpdateOperation.create_dense_vector(name, size, edge.Distance.Cosine))
            settle(shard)
            self._record(shard, {**self._held["vectors"], name: size})

    def drop_vector(self, name: str) -> None:
        """Take the vectors of a name from the collection; while nobody else writes.

        ``collection.json`` loses them first: killed after that, they are taken from the shard when it is opened.
        """
        with self.use() as shard:
            self.changes += 1
            if name in (held := self._held["vectors"]):
                self._record(shard, {other: size for other, size in held.items() if other != name})
            shard.engine.update(edge.UpdateOperation.delete_vector_name(name))
            shard.engine.flush()

    def need(self, share: float, size: int = 0) -> None:
        """Return if the disk has room for so many bytes beside a share of the floor.

        Raises:
            OutOfSpace: it has not.
        """
        check_free_space(self._folder, self._floor * share, size)

    @contextmanager
    def use(self) -> Iterator[Shard]:
        """The collection's shard, which is not closed before this ends; opened where it was not.

        Raises:
            OutOfSpace: the disk has too little room to open it.
            Unavailable: there is no collection yet, or no longer.
        """
        with self._turn:
            shard = self._open()
            shard.users += 1
        try:
            yield shard
        finally:
            with self._turn:
                shard.users -= 1
                self._turn.notify_all()

    def make(self, vectors: Mapping[str, int]) -> Shard:
        """A new, empty shard, which does not count before `switch`."""
        folder = self._folder / f"shard-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            return Shard(folder, edge.EdgeShard.create(str(folder), config_of(vectors)))
        except BaseException:
            shutil.rmtree(folder)
            raise

    def rebuild(self, shard: Shard, build: Callable[[Path], None]) -> None:
        """Let something else work on a shard that nobody uses, which is closed meanwhile."""
        shard.engine.close()
        build(shard.folder)
        shard.engine = _load(shard.folder)

    def switch(self, shard: Shard, vectors: Mapping[str, int]) -> None:
        """Make a shard durable, then let it be the collection's."""
        settle(shard)
        self._record(shard, vectors)

    def discard(self, shard: Shard) -> None:
        """Close and delete a shard once nobody uses it; nothing where it is the collection's."""
        with self._turn:
            if shard is self._current:
                return
            self._turn.wait_for(lambda: shard.users == 0)
        shard.engine.close()
        shutil.rmtree(shard.folder)
        sync(self._folder)

    def close(self) -> None:
        """Write and close the collection's shard, once nobody uses it or some seconds have passed."""
        with self._turn:
            self._closed = True
            shard = self._current
            if shard is None:
                return
            self._turn.wait_for(lambda: shard.users == 0, LAST_CALL)
        with suppress(OutOfSpace):  # the log holds what the segments lack
            self.need(DELETE)
            shard.engine.flush()
        shard.engine.close()

    def _open(self) -> Shard:
        if self._closed:
            raise Unavailable("the store is ending; send it again")
        if self._current is None:
            if self._held is None:
                raise Unavailable("the collection is not created yet")
            self.need(FINISH)
            folder = self._folder / self._held["shard"]
            shard = Shard(folder, _load(folder))
            _drop_others(shard, self._held["vectors"])
            self._current = shard
        return self._current

    def _record(self, shard: Shard, vectors: Mapping[str, int]) -> None:
        """Let ``collection.json`` name a shard and its named vectors, durably."""
        held = {"shard": shard.folder.name, "vectors": dict(vectors)}
        sync(self._folder)
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(held))
        sync(draft)
        with self._turn:
            draft.replace(self._file)
            self._held = held
            self._current = shard
        sync(self._folder)

    def _remove_leftovers(self) -> None:
        for folder in self._folder.glob("shard-*"):
            if self._held is None or folder.name != self._held["shard"]:
                shutil.rmtree(folder)
        sync(self._folder)


def _load(folder: Path) -> edge.EdgeShard:
    """Open a shard, with its files in the system's cache: Edge would hold up every other thread while it reads them."""
    buffer = bytearray(READ_AT_ONCE)
    for place in filter(Path.is_file, (folder / "segments").rglob("*")):
        with place.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return edge.EdgeShard.load(str(folder))


def _drop_others(shard: Shard, vectors: Collection[str]) -> None:
    """Take the vectors from a shard that the collection does not have: a kill left them in the middle of a change."""
    config = json.loads((shard.folder / "edge_config.json").read_text())
    others = config["vectors"].keys() - {*vectors}
    for name in others:
        shard.engine.update(edge.UpdateOperation.delete_vector_name(name))
    if others:
        shard.engine.flush()


def config_of(vectors: Mapping[str, int], **further: Any) -> edge.EdgeConfig:
    """What a shard of these named vectors is made with.

    One thread searches for each caller: more of them take twice the time of a processor, to win nothing by it. Payloads
    are kept in the system's cache like the vectors: every search reads some.
    """
    params = {name: edge.EdgeVectorParams(size, edge.Distance.Cosine) for name, size in vectors.items()}
    return edge.EdgeConfig(vectors=params, max_search_threads=1, payload_memory=edge.Memory.Cached, **further)


def settle(shard: Shard) -> None:
    """Make all that a shard holds durable."""
    shard.engine.flush()
    for place in (*shard.folder.rglob("*"), shard.folder):
        with suppress(FileNotFoundError):  # the log's next file, which is made under another name in the background
            sync(place)
