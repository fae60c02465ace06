"""Promise 3: what was deleted or overwritten before a compaction is gone from the disk, and all else is as it was."""

import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.contract.conftest import ENGINES
from tests.support.memory_images import DIMENSION, ENCODER, METADATA, Owner, clauses, delete_marked, image, put, units
from tests.support.running_service import until
from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.image import StoredImage
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import marked_by
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Compaction, Engine, Insert
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_edge.shard_copy import ShardCopy
from visual_memory.services.vector_engines.qdrant_edge.shard_files import ShardFiles
from visual_memory.services.vector_engines.qdrant_server import QdrantServerEngine

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
EMBEDDED = ["edge", "remote"]
EXACT = [name for name in ENGINES if name != "local"]
"""Local mode divides vectors by their length again and again, and gets another last bit now and then."""


def everything(engine: Engine, limit: int = 50) -> dict[str, tuple[Any, dict[str, bytes]]]:
    """Every point with its payload and the bytes of its vectors, by id; checks the order on the way."""
    points, cursor = engine.export(EVERY_POINT, limit, None)
    while cursor is not None:
        more, cursor = engine.export(EVERY_POINT, limit, cursor)
        points += more
    ids = [uuid.UUID(point.id) for point in points]
    assert ids == sorted(set(ids))
    return {point.id: (point.payload, _bytes(point.vectors)) for point in points}


def _bytes(vectors: Any) -> dict[str, bytes]:
    return {name: np.asarray(row, np.float32).tobytes() for name, row in vectors.items()}


def bytes_below(folder: Path) -> bytes:
    """Every byte of every file, less what is left of long runs of zeros: the engine's files are full of holes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\0".join(re.sub(rb"\0{64,}", bytes(64), path.read_bytes()) for path in files)


@pytest.fixture
def edge(folder: Path) -> Iterator[EdgeEngine]:
    engine = EdgeEngine(folder / "data")
    yield engine
    engine.close()


def opened(engine: Engine) -> Memory:
    memory = Memory(engine, ENCODER, DIMENSION, METADATA)
    memory.open()
    return memory


def taught(memory: Memory, count: int, tenant: str = "t") -> list[StoredImage]:
    images = [image(tenant, f"i{n}", subject=f"s{n % 3}") for n in range(count)]
    put(memory, images)
    memory.embeddings.store(images, units(count))
    return images


# Over every engine


@pytest.mark.parametrize("engine", EXACT, indirect=True, scope="module")
def test_a_compaction_changes_nothing_that_lives(engine: Engine, memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}", subject="Ann" if n % 3 else "Bob") for n in range(60)]
    put(memory, images)
    memory.embeddings.store(images[:50], units(50))
    memory.writes.delete(images[:10])
    shape, before = engine.inspect(), everything(engine)
    hits = memory.search.nearest(tenant, units(5), 10, effort=Effort.EXACT)
    done = memory.compact()
    assert engine.inspect() == shape
    assert everything(engine) == before
    assert memory.search.nearest(tenant, units(5), 10, effort=Effort.EXACT) == hits
    assert memory.images.count(tenant, clauses(subject="Ann")) == 34
    assert done.erased is not bool(done.note)


@pytest.mark.parametrize("engine", EMBEDDED, indirect=True, scope="module")
def test_an_embedded_engine_erases(memory: Memory) -> None:
    assert memory.compact() == Compaction(erased=True, note="")


def test_a_server_is_asked_to_vacuum_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    client = QdrantClient(":memory:")
    engine = QdrantServerEngine(client, "test")
    memory = opened(engine)
    images = taught(memory, 20)
    memory.writes.delete(images[:5])
    asked: list[models.OptimizersConfigDiff] = []
    update = client.update_collection

    def note(name: str, **changes: Any) -> bool:
        asked.extend(changes[each] for each in ("optimizers_config",) if each in changes)
        return update(name, **changes)

    monkeypatch.setattr(client, "update_collection", note)
    usual = client.get_collection("test").config.optimizer_config
    done = memory.compact()
    first, last = asked
    assert (first.deleted_threshold, first.vacuum_min_vector_number) == (0.0, 100)
    assert (last.deleted_threshold, last.vacuum_min_vector_number) == (
        usual.deleted_threshold,
        usual.vacuum_min_vector_number,
    )
    assert [payload["image_id"] for payload, row in everything(engine).values() if row] == [
        each.image_id for each in memory.images.page("t", [], 20)[0]
    ]
    assert memory.images.count("t") == 15
    assert not done.erased
    for word in ("vacuum", "came to rest", "write-ahead log", "snapshots", "replicas", "backups", "operator"):
        assert word in done.note
    memory.close()


# Export


@pytest.mark.parametrize("engine", EXACT, indirect=True, scope="module")
def test_points_come_back_from_an_export_to_the_last_bit(engine: Engine, memory: Memory, tenant: str) -> None:
    vectors = units(300, seed=9)
    vectors[::2] *= np.float32(1.0005)  # as far from length 1 as the memory lets pass
    images = [image(tenant, f"i{n}", metadata={"weight": 0.1 * n, "count": 2**60 + n}) for n in range(300)]
    put(memory, images)
    memory.embeddings.store(images[:290], vectors[:290])
    points, cursor = memory.points.engine.export(EVERY_POINT, 10**6, None)
    assert cursor is None
    before = everything(engine)
    mine = [point for point in points if point.payload["tenant"] == tenant]
    assert len(mine) == 300
    assert sum(not point.vectors for point in mine) == 10
    memory.marks.mark(tenant, [], "r")
    delete_marked(memory, tenant, "r")
    assert memory.images.count(tenant) == 0
    engine.write([Insert(mine)])
    assert everything(engine, limit=7) == before


# What is left on the disk


def test_no_byte_of_what_was_deleted_or_amended_is_left(folder: Path, edge: EdgeEngine) -> None:
    memory = opened(edge)
    vectors = units(400, seed=3)
    vectors[::2] *= np.float32(1.0005)  # these are stored otherwise than they were given
    images = [image("t", f"i{n:03}", subject=f"marker-{n:03}", metadata={"camera": f"lens-{n:03}"}) for n in range(400)]
    put(memory, images)
    memory.embeddings.store(images, vectors)
    held = memory.images.get("t", [each.image_id for each in images])
    stored = {payload["image_id"]: next(iter(row.values())) for payload, row in everything(edge).values()}
    assert stored["i000"] != vectors[0].tobytes()
    for each in images[:50]:
        memory.writes.amend(
            held[each.image_id], held[each.image_id].model_copy(update={"subject": f"new-{each.image_id}"})
        )
    put(memory, [images[50].model_copy(update={"picture": "t/new"})])  # replaced: its vector is gone
    memory.marks.mark("t", clauses(image_id=[each.image_id for each in images[100:]]), "r")
    delete_marked(memory, "t", "r")
    memory.writes.delete(images[90:100])
    gone = [*(f"marker-{n:03}".encode() for n in (*range(50), *range(90, 400)))]
    gone += [f"lens-{n:03}".encode() for n in range(90, 400)]
    rows = [
        *vectors[90:400],
        vectors[50],
        *(np.frombuffer(stored[f"i{n:03}"], np.float32) for n in (*range(90, 400), 50)),
    ]
    gone += [row.astype(order).tobytes() for row in rows for order in ("<f4", ">f4")]
    there = bytes_below(folder)
    assert sum(each in there for each in gone) > 600, "the engine erases by itself: is a compaction needed?"

    memory.compact()
    there = bytes_below(folder)
    assert [each for each in gone if each in there] == []
    kept = [f"marker-{n:03}".encode() for n in range(50, 90)] + [stored[f"i{n:03}"] for n in range(50)]
    assert [each for each in kept if each not in there] == []
    assert memory.images.count("t") == 90


def test_another_compaction_at_once_erases_what_was_deleted_before_it(folder: Path, edge: EdgeEngine) -> None:
    """It must not share one that looked before the deletion."""
    memory = opened(edge)
    images = taught(memory, 300)
    copying, go_on = threading.Event(), threading.Event()
    usual, calls = edge._compactor._check_stop, 0

    def slow() -> None:
        nonlocal calls
        usual()
        calls += 1
        if calls == 2:  # the first page is copied
            copying.set()
            go_on.wait(60)

    edge._compactor._check_stop = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=memory.compact)]
    threads[0].start()
    assert copying.wait(60)
    put(memory, [image("t", "late", subject="marker-late")])
    memory.writes.delete(list(memory.images.get("t", ["late"]).values()))
    memory.writes.delete(images[:100])
    threads.append(threading.Thread(target=memory.compact))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    there = bytes_below(folder)
    assert b"marker-late" not in there
    assert [n for n, row in enumerate(units(300)) if row.tobytes() in there] == list(range(100, 300))
    assert memory.images.count("t") == 200


# While others work


def test_writes_of_every_kind_during_the_copying_are_there_afterwards(edge: EdgeEngine) -> None:
    memory = opened(edge)
    images = taught(memory, 600)
    late = [image("t", f"late{n}") for n in range(5)]
    usual, calls = edge._compactor._check_stop, 0

    def meanwhile() -> None:
        nonlocal calls
        usual()
        calls += 1
        if calls == 3:  # two pages of three are copied
            put(memory, late)
            memory.embeddings.store(late[:3], units(3, seed=5))
            held = memory.images.get("t", ["i1", "i2"])
            memory.writes.amend(held["i1"], held["i1"].model_copy(update={"subject": "amended"}))
            put(memory, [held["i2"].model_copy(update={"picture": "t/other"})])
            memory.writes.delete(images[10:20])
            memory.marks.mark("t", clauses(subject="s0"), "r")
            Memory(edge, ENCODER, DIMENSION, {**METADATA, "lens": METADATA["camera"]}).open()

    edge._compactor._check_stop = meanwhile  # type: ignore[method-assign]
    memory.compact()
    assert calls > 3
    assert memory.images.count("t") == 600 + 5 - 10
    assert memory.images.count("t", [marked_by("r")]) == len([n for n in range(600) if n % 3 == 0 and not 10 <= n < 20])
    held = memory.images.get("t", ["i1", "i2", *(each.image_id for each in late)])
    assert (held["i1"].subject, held["i2"].picture, len(held)) == ("amended", "t/other", 7)
    with_vector = {payload["image_id"] for payload, row in everything(edge).values() if row}
    assert "i2" not in with_vector
    assert {"late0", "late1", "late2", "i1"} <= with_vector
    shape = edge.inspect()
    assert shape is not None
    assert shape.indexes["metadata.lens"] == "keyword"


def test_searches_go_on_all_the_time(edge: EdgeEngine) -> None:
    memory = opened(edge)
    taught(memory, 600)
    stop, errors, asked = threading.Event(), list[BaseException](), 0

    def read() -> None:
        nonlocal asked
        try:
            while not stop.is_set():
                (found,) = memory.search.nearest("t", units(600)[599:], 1, effort=Effort.EXACT)
                assert [hit.image_id for hit in found] == ["i599"]
                assert memory.images.get("t", ["i598"]).keys() == {"i598"}
                asked += 1
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    def more(before: int) -> bool:
        return asked > before + 2 or bool(errors)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        memory.compact()
        after = asked
        until(partial(more, after), "a search after the compaction")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(edge._folder.glob("shard-*"))) == 1


def test_a_search_that_runs_during_the_switch_ends_well(edge: EdgeEngine) -> None:
    memory = opened(edge)
    taught(memory, 50)
    with edge._shards.use() as old:
        thread = threading.Thread(target=memory.compact)
        thread.start()
        until(lambda: old.folder.name not in edge._shards._file.read_text(), "the switch")
        put(memory, [image("t", "on-the-new-one")])
        assert old.engine.info().points_count == 50
        assert thread.is_alive()
    thread.join()
    assert not old.folder.exists()
    assert memory.images.count("t") == 51


def test_an_ending_breaks_a_compaction_off(folder: Path) -> None:
    engine = EdgeEngine(folder / "data")
    memory = opened(engine)
    taught(memory, 10)
    before = everything(engine)
    copying, usual, errors = threading.Event(), engine._compactor._check_stop, list[Exception]()

    def endless() -> None:
        copying.set()
        while True:
            usual()
            time.sleep(0.001)

    def compact() -> None:
        try:
            memory.compact()
        except Unavailable as error:
            errors.append(error)

    engine._compactor._check_stop = endless  # type: ignore[method-assign]
    thread = threading.Thread(target=compact)
    thread.start()
    assert copying.wait(60)
    engine.close()
    thread.join()
    assert len(errors) == 1
    again = EdgeEngine(folder / "data")
    assert everything(again) == before
    assert len(list((folder / "data").glob("shard-*"))) == 1
    again.close()


# Crashes

CRASH = """
import os, pathlib, shutil, sys
from visual_memory.services.vector_engines.qdrant_edge import edge_engine, shard_copy, shard_files
engine = edge_engine.EdgeEngine(pathlib.Path(sys.argv[1]))
steps = {"make": shard_files.ShardFiles, "_put": shard_copy.ShardCopy, "switch": shard_files.ShardFiles,
    "replace": pathlib.Path, "discard": shard_files.ShardFiles, "rmtree": shutil}
name = sys.argv[2]
owner = steps[name]
held = getattr(owner, name)
def die(*arguments, **named):
    if sys.argv[3] == "after":
        held(*arguments, **named)
    os._exit(9)
setattr(owner, name, die)
engine.compact()
"""


BEFORE = [(step, "before") for step in ("make", "_put", "switch", "replace", "discard", "rmtree")]


@pytest.mark.parametrize(("step", "when"), [*BEFORE, ("replace", "after")])
def test_a_crash_at_any_step_leaves_the_old_or_the_new(folder: Path, step: str, when: str) -> None:
    engine = EdgeEngine(folder / "data")
    images = taught(opened(engine), 20)
    opened(engine).writes.delete(images[:5])
    shape, before = engine.inspect(), everything(engine)
    engine.close()
    command = [sys.executable, "-c", CRASH, str(folder / "data"), step, when]
    assert subprocess.run(command, timeout=60, check=False).returncode == 9
    again = EdgeEngine(folder / "data")
    assert (again.inspect(), everything(again)) == (shape, before)
    assert len(list((folder / "data").glob("shard-*"))) == 1
    again.close()


def test_a_failed_compaction_leaves_no_draft(edge: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = opened(edge)
    taught(memory, 10)
    before = everything(edge)

    def fail(*_: object) -> None:
        raise OutOfSpace("no room")

    for owner, name in ((ShardCopy, "_put"), (ShardCopy, "indexes"), (ShardFiles, "switch")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail)
            with pytest.raises(OutOfSpace):
                memory.compact()
        assert len(list(edge._folder.glob("shard-*"))) == 1
        assert everything(edge) == before
    memory.compact()
    assert everything(edge) == before


# Over the owner


SLOW_COPY = (
    "import time; from visual_memory.services.vector_engines.qdrant_edge.shard_copy import ShardCopy;"
    "ShardCopy.again = lambda *_: time.sleep({seconds})"
)


def test_a_caller_waits_longer_than_its_timeout_while_others_are_served(folder: Path) -> None:
    slow = SLOW_COPY.format(seconds=7)
    with Owner(folder, prelude=slow) as owner:
        engine = EngineOwnerClient(owner.ready().socket, timeout=30)
        memory = opened(engine)
        taught(memory, 50)
        hasty = EngineOwnerClient(owner.socket, timeout=6)
        done: list[Compaction] = []
        thread = threading.Thread(target=lambda: done.append(hasty.compact()))
        thread.start()
        served = 0
        while thread.is_alive():
            assert memory.images.count("t") == 50
            served += 1
            thread.join(0.05)
        assert done == [Compaction(erased=True)]
        assert served > 1
        memory.close()
        hasty.close()


def test_a_caller_notices_an_owner_that_dies_or_hangs_in_the_middle(folder: Path) -> None:
    endless = SLOW_COPY.format(seconds=3600)
    with Owner(folder, prelude=endless) as owner:
        memory = opened(EngineOwnerClient(owner.ready().socket, timeout=30))
        taught(memory, 10)
        engine = EngineOwnerClient(owner.socket, timeout=1)
        for end in ("suspend", "kill"):
            errors: list[Exception] = []

            def compact(errors: list[Exception] = errors) -> None:
                try:
                    engine.compact()
                except Unavailable as error:
                    errors.append(error)

            thread = threading.Thread(target=compact)
            thread.start()
            until(lambda: len(list(owner.data.glob("shard-*"))) == 2, "a draft")
            if end == "suspend":
                owner.suspend()
            else:
                owner.kill()
            thread.join(60)
            assert len(errors) == 1
            owner.kill()
            owner.start()
            assert memory.images.count("t") == 10
            assert len(list(owner.data.glob("shard-*"))) == 1
        engine.close()
        memory.close()
