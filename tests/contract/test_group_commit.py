"""Promise 1: nobody returns before a sync that began after the own write, many share one, and it is enough."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.memory_images import image, put
from visual_memory.schemas.errors import OutOfSpace
from visual_memory.schemas.image import State
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_edge.group_commit import GroupCommit
from visual_memory.services.vector_engines.qdrant_edge.shard_files import ShardFiles


def test_each_writer_waits_for_a_sync_that_began_after_its_write() -> None:
    clock, flushes = threading.Lock(), []
    ticks = iter(range(10**6))

    def tick() -> int:
        with clock:
            return next(ticks)

    def flush() -> None:
        begun = tick()
        time.sleep(0.002)
        flushes.append((begun, tick()))

    commit = GroupCommit(flush)
    waits: list[tuple[int, int]] = []

    def write() -> None:
        for _ in range(30):
            written = tick()
            commit()
            waits.append((written, tick()))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == 240
    assert all(any(written < begun and ended < done for begun, ended in flushes) for written, done in waits)
    assert len(flushes) < 120


def test_a_sync_that_fails_is_nobodys_success() -> None:
    gate = threading.Event()
    calls = 0

    def flush() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            gate.wait(60)
        if calls <= 2:
            raise OSError(28, "No space left on device")

    commit = GroupCommit(flush)
    outcomes: list[bool] = []

    def write() -> None:
        try:
            commit()
            outcomes.append(True)
        except OutOfSpace:
            outcomes.append(False)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == [False, False, True]
    commit()
    with pytest.raises(OutOfSpace):
        GroupCommit(_full)()


def _full() -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("newer", ["", "payload_index", "payload_storage"])
def test_the_log_brings_back_what_the_segments_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: str
) -> None:
    """What a power cut or a kill leaves: the log as it was synced last, and segments as they were written long ago.

    A kill in the middle of a flush leaves a part of them newer than the rest.
    """
    monkeypatch.setattr(
        "visual_memory.services.vector_engines.qdrant_edge.segment_flusher.FLUSH_SECONDS", 3600
    )  # nothing is flushed but by this test
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    engine = EdgeEngine(whole)
    memory = Memory(engine, "encoder", 4, {})
    memory.open()
    memory.writes.put([image("default", "before"), image("default", "removed")])
    with engine._shards.use() as shard:
        shard.engine.flush()
        folder = shard.folder.relative_to(whole)
    shutil.copytree(whole, cut)
    memory.writes.put([image("default", "after")])
    waiting = list(memory.images.get("default", ["before", "after"]).values())
    memory.embeddings.store(waiting, np.eye(2, 4, dtype=np.float32))
    memory.writes.delete(list(memory.images.get("default", ["removed"]).values()))
    _take(folder / "wal", whole, cut)
    with engine._shards.use() as shard:
        shard.engine.flush()
    for part in whole.glob(f"{folder}/segments/*/{newer}") if newer else ():
        _take(part.relative_to(whole), whole, cut)
    expected = memory.images.get("default", ["before", "after", "removed"])
    memory.close()

    recovered = Memory(EdgeEngine(cut), "encoder", 4, {})
    assert recovered.images.get("default", ["before", "after", "removed"]) == expected
    assert set(expected) == {"before", "after"}
    assert recovered.images.count_by_state("default") == {State.REMEMBERED: 2}
    nearest = recovered.search.nearest("default", np.eye(1, 4, dtype=np.float32), 5)[0]
    assert [hit.similarity for hit in nearest] == [1.0, 0.0]
    recovered.close()


def _take(part: Path, source: Path, target: Path) -> None:
    shutil.rmtree(target / part)
    shutil.copytree(source / part, target / part)


def test_a_log_that_the_engine_renames_while_it_is_synced_costs_no_write(folder: Path) -> None:
    engine = EdgeEngine(folder)
    memory = Memory(engine, "test", 4, {})
    memory.open()
    [log] = folder.glob("shard-*/wal")
    (log / "open-99").symlink_to("renamed")  # what is listed, and is not there any more
    put(memory, [image("t", "a")])
    assert set(memory.images.get("t", ["a"])) == {"a"}
    engine.close()


def test_a_new_shard_is_made_durable_while_the_engine_renames_its_next_log(folder: Path) -> None:
    shards = ShardFiles(folder, 0)
    shard = shards.make({"test": 4})
    (shard.folder / "wal" / "tmp-open-99").symlink_to("renamed")
    shards.switch(shard, {"test": 4})
    with shards.use() as used:
        assert used is shard
    shards.close()
