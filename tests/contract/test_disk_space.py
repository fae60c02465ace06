"""The floor of free space: what takes room is refused first, and what makes room last."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.memory_images import (
    DIMENSION,
    ENCODER,
    METADATA,
    Owner,
    clauses,
    delete_marked,
    image,
    put,
    reject,
    units,
)
from tests.support.running_service import until
from visual_memory.schemas.errors import OutOfSpace
from visual_memory.schemas.field_types import FieldType
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.disk_space import MIB, REMOVE
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import marked_by, within
from visual_memory.services.memory.points.point_payload import to_point
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Index, Insert, SetPayload
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_edge.shard_copy import ShardCopy

FLOOR = 256 * MIB


class Disk:
    """A disk of which the test says how much is free; what is written on it takes nothing."""

    def __init__(self) -> None:
        self.free: float = 10 * FLOOR

    def look(self, _folder: object) -> Any:
        return SimpleNamespace(f_bavail=int(self.free), f_frsize=1)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "statvfs", made.look)
    return made


@pytest.fixture
def memory(disk: Disk, folder: Path) -> Iterator[Memory]:
    opened = Memory(EdgeEngine(folder / "data", FLOOR), ENCODER, DIMENSION, METADATA)
    opened.open()
    yield opened
    disk.free = 10 * FLOOR
    opened.close()


def test_the_floor_falls_in_steps(disk: Disk, memory: Memory, folder: Path) -> None:
    pictures, blobs = PictureStore(folder / "pictures", FLOOR), BlobStore(folder / "blobs", FLOOR * REMOVE)
    old = [image("t", f"old{n}") for n in range(3)]
    put(memory, old)
    held = memory.leases.begin(old)[0]
    vectors, engine = units(3), memory.points.engine

    new: list[Callable[[], object]] = [
        lambda: put(memory, [image("t", "new")]),
        lambda: put(memory, [image("t", "old1")]),
        lambda: engine.write([Insert([to_point(image("t", "new"))])]),
        lambda: engine.index({"metadata.camera": Index(FieldType.KEYWORD)}),
        lambda: pictures.write("t/aa/x", b"x"),
        memory.compact,
    ]
    finish: list[Callable[[], object]] = [
        lambda: memory.writes.amend(held, held.model_copy(update={"subject": "x"})),
        lambda: memory.leases.begin(old),
        lambda: memory.embeddings.store(old, vectors),
        lambda: reject(memory, held, "x"),
    ]
    remove: list[Callable[[], object]] = [
        lambda: memory.marks.mark("t", [], "r"),
        lambda: memory.leases.release([held]),
        lambda: blobs.write("a/b", b"1"),
    ]
    delete: list[Callable[[], object]] = [
        lambda: memory.writes.delete(old),
        lambda: delete_marked(memory, "t", "r"),
    ]
    always: list[Callable[[], object]] = [
        memory.ping,
        lambda: memory.images.get("t", ["old0"]),
        lambda: memory.search.nearest("t", vectors, 1),
        lambda: engine.export(EVERY_POINT, 10, None),
        lambda: pictures.delete(["t/aa/x"]),
        lambda: blobs.delete(["a/b"]),
    ]
    steps = [(1.0, new), (0.5, finish), (0.25, remove), (0.125, delete), (0.0, always)]
    for share, _ in steps[:-1]:
        disk.free = FLOOR * share - 1
        for least, calls in steps:
            for call in calls:
                if least >= share:
                    with pytest.raises(OutOfSpace, match="free some space"):
                        call()
                elif least in {0.0, 0.25}:  # the others would change what the next step needs
                    call()
    assert memory.images.get("t", ["old0", "old1", "new"]).keys() == {"old0", "old1"}


def test_filling_takes_room_like_what_is_new_and_finishing_does_not(disk: Disk, memory: Memory) -> None:
    old, waiting = [image("t", f"old{n}") for n in range(2)], [image("t", f"new{n}") for n in range(2)]
    put(memory, old)
    memory.embeddings.store(old, units(2))
    put(memory, waiting)
    memory.points.engine.add_vector("other", 11)
    other, rows = memory.with_encoder("other", 11), units(2, dimension=11)
    disk.free = FLOOR - 1
    with pytest.raises(OutOfSpace, match="free some space"):
        other.missing_vectors.store(old, rows)
    with pytest.raises(OutOfSpace, match="free some space"):
        memory.points.engine.add_vector("a third", 11)
    disk.free = FLOOR // 2
    assert memory.embeddings.store(waiting, units(2), further={"other": rows}) == 2
    disk.free = FLOOR // 4
    memory.missing_vectors.clear_given_up("other")
    disk.free = FLOOR // 8
    memory.points.engine.drop_vector("other")
    assert memory.images.count_with_vectors("t") == 4


def test_each_step_does_its_work_just_above_its_floor(disk: Disk, memory: Memory) -> None:
    images = [image("t", f"i{n}") for n in range(4)]
    disk.free = FLOOR
    put(memory, images)
    disk.free = FLOOR // 2
    assert memory.embeddings.store(images, units(4)) == 4
    disk.free = FLOOR // 4
    memory.marks.mark("t", [], "r")
    disk.free = FLOOR // 8
    delete_marked(memory, "t", "r")
    assert memory.images.count("t") == 0


def test_a_mark_on_more_points_than_the_room_allows_is_refused(
    disk: Disk, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, [image("t", f"i{n}", source="s" if n < 10 else None) for n in range(100)])
    monkeypatch.setattr(
        "visual_memory.services.vector_engines.qdrant_edge.points_changed_by_writes.PER_POINT", FLOOR // 200
    )
    disk.free = FLOOR * 0.25 + FLOOR // 200 * 50
    with pytest.raises(OutOfSpace):
        memory.marks.mark("t", [], "r")
    memory.points.engine.write([SetPayload({"removal": "r"}, within("t", clauses(source="s")))], urgent=True)
    assert memory.images.count("t", [marked_by("r")]) == 10


def test_a_copy_that_will_not_fit_is_not_begun(disk: Disk, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    put(memory, [image("t", f"i{n}") for n in range(100)])
    monkeypatch.setattr(
        "visual_memory.services.vector_engines.qdrant_edge.compaction._size_of_copy", lambda _folder: 10 * MIB
    )
    disk.free = FLOOR + 10 * MIB - 1
    with pytest.raises(OutOfSpace):
        memory.compact()
    disk.free += 1
    memory.compact()


def test_a_copy_that_meets_the_floor_on_its_way_is_removed(
    disk: Disk, memory: Memory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, [image("t", f"i{n}") for n in range(500)])
    usual = ShardCopy._put

    def fill(self: ShardCopy, records: Any) -> None:
        usual(self, records)
        disk.free = FLOOR - 1

    with monkeypatch.context() as patched:
        patched.setattr(ShardCopy, "_put", fill)
        with pytest.raises(OutOfSpace):
            memory.compact()
    assert len(list((folder / "data").glob("shard-*"))) == 1
    disk.free = 10 * FLOOR
    memory.compact()
    assert memory.images.count("t") == 500


def test_an_engine_opens_once_there_is_room(disk: Disk, folder: Path) -> None:
    memory = Memory(EdgeEngine(folder / "data", FLOOR), ENCODER, DIMENSION, METADATA)
    memory.open()
    put(memory, [image("t", "a")])
    memory.close()
    disk.free = FLOOR // 2 - 1
    again = Memory(EdgeEngine(folder / "data", FLOOR), ENCODER, DIMENSION, METADATA)
    for call in (again.ping, again.open, lambda: again.images.get("t", ["a"]), lambda: again.marks.mark("t", [], "r")):
        with pytest.raises(OutOfSpace):
            call()
    disk.free += 1
    assert again.images.get("t", ["a"]).keys() == {"a"}
    again.close()


def test_an_owner_without_room_says_so_and_lives(folder: Path) -> None:
    """With a floor that no disk has, on a collection that was made without one."""
    with Owner(folder) as owner:
        engine = EngineOwnerClient(owner.ready().socket, timeout=30)
        Memory(engine, ENCODER, DIMENSION, METADATA).open()
        assert owner.stop() == 0
    with Owner(folder, floor=2**60) as owner:
        owner.start()
        until(owner.socket.exists, "the owner to listen")
        for _ in range(3):
            with pytest.raises(OutOfSpace):
                engine.ping()
        assert owner.process is not None
        assert owner.process.poll() is None
        assert owner.stop() == 0
    engine.close()


def test_those_who_write_at_once_do_not_fill_the_disk_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each must see what the others have taken: the disk has room for three of them."""
    pictures = PictureStore(folder, FLOOR)
    data, room = bytes(MIB), 3 * MIB

    def look(_folder: object) -> Any:
        taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        time.sleep(0.02)  # long enough for all the others to look too
        return SimpleNamespace(f_bavail=FLOOR + room - taken, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", look)
    barrier, refused = threading.Barrier(8), list[Exception]()

    def write(number: int) -> None:
        barrier.wait(60)
        try:
            pictures.write(f"t/aa/{number}", data)
        except OutOfSpace as error:
            refused.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    assert len(pictures.all()) == 3
    assert not list(folder.rglob(".*"))
