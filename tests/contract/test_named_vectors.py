"""A collection gets and loses named vectors while it is used; what is dropped never comes back."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.test_compaction import bytes_below, everything
from tests.support.memory_images import DIMENSION, ENCODER, METADATA, Owner, units
from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.errors import EncoderMismatch, Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_filters import within
from visual_memory.services.vector_engines.engine_contract import (
    EVERY_POINT,
    Delete,
    Engine,
    Insert,
    NamedVectors,
    Point,
    PointFilter,
    Replace,
    Search,
    SetPayload,
    UpdateVectors,
    Vectors,
)
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
FIRST = vector_name(ENCODER)
LONGER = DIMENSION + 3


@pytest.fixture
def added(engine: Engine, memory: Memory) -> Iterator[str]:
    """Another named vector, dropped in the end."""
    assert memory
    name = f"added-{uuid.uuid4().hex}"
    engine.add_vector(name, LONGER)
    yield name
    engine.drop_vector(name)


@pytest.fixture
def edge(folder: Path) -> Iterator[EdgeEngine]:
    engine = EdgeEngine(folder / "data")
    Memory(engine, ENCODER, DIMENSION, METADATA).open()
    yield engine
    engine.close()


def longer(rows: int, seed: int = 1) -> Vectors:
    return units(rows, seed, LONGER)


def points(tenant: str, number: int) -> list[Point]:
    return [
        Point(str(uuid.uuid4()), {"tenant": tenant, "picture": f"{tenant}/{n}", "number": n, "image_id": f"i{n}"})
        for n in range(number)
    ]


def ids(given: list[Point]) -> list[str]:
    return [point.id for point in given]


def filled(engine: Engine, tenant: str, number: int) -> list[Point]:
    """Points with the first vector."""
    given = points(tenant, number)
    engine.write([Insert(given, NamedVectors(FIRST, units(number)))])
    return given


def nearest(engine: Engine, tenant: str, name: str, vectors: Vectors) -> list[list[object]]:
    search = Search(name, within(tenant), 1, Effort.EXACT, ("number",))
    return [answer.columns["number"] for answer in engine.query_batch(vectors, search)]


def give(engine: Engine, given: list[Point], name: str, vectors: Vectors) -> None:
    engine.write(
        [UpdateVectors(ids(given), NamedVectors(name, vectors), within(given[0].payload["tenant"]), additional=True)]
    )


# Over every engine


def test_a_name_is_added_beside_and_adding_it_again_changes_nothing(engine: Engine, added: str, tenant: str) -> None:
    given = filled(engine, tenant, 6)
    assert engine.count(PointFilter(tenant, vector=added)) == 0
    assert engine.count(PointFilter(tenant, lacks=added)) == 6
    give(engine, given[:4], added, longer(4))
    engine.add_vector(added, LONGER)
    shape = engine.inspect()
    assert shape is not None
    assert (shape.vectors[FIRST], shape.vectors[added]) == (DIMENSION, LONGER)
    assert engine.count(PointFilter(tenant, vector=added)) == 4
    assert engine.count(PointFilter(tenant, lacks=added)) == 2
    assert engine.count(PointFilter(tenant, vector=FIRST, lacks=added)) == 2
    assert engine.count(PointFilter(tenant, vector=added, lacks=FIRST)) == 0
    assert nearest(engine, tenant, added, longer(4)) == [[0], [1], [2], [3]]
    assert nearest(engine, tenant, FIRST, units(6)) == [[n] for n in range(6)]
    with pytest.raises(EncoderMismatch, match=added):
        engine.add_vector(added, LONGER + 1)


def test_the_collection_keeps_one_name_at_least(engine: Engine, memory: Memory) -> None:
    assert memory
    with pytest.raises(ValueError, match="no vectors but"):
        engine.drop_vector(FIRST)
    engine.drop_vector("never there")


def test_what_is_dropped_is_gone_and_stays_so_when_the_name_comes_back(engine: Engine, added: str, tenant: str) -> None:
    given = filled(engine, tenant, 5)
    give(engine, given, added, longer(5))
    engine.drop_vector(added)
    engine.drop_vector(added)
    shape = engine.inspect()
    assert shape is not None
    assert added not in shape.vectors
    assert engine.count(PointFilter(tenant, vector=added)) == 0
    assert engine.count(PointFilter(tenant, lacks=added)) == 5
    exported, _ = engine.export(within(tenant), 9, None)
    assert {name for point in exported for name in point.vectors} == {FIRST}
    engine.add_vector(added, DIMENSION)
    assert engine.count(PointFilter(tenant, vector=added)) == 0
    give(engine, given[:1], added, units(1, seed=7))
    assert nearest(engine, tenant, added, units(1, seed=7)) == [[0]]
    assert engine.count(PointFilter(tenant, vector=added)) == 1
    assert nearest(engine, tenant, FIRST, units(5)) == [[n] for n in range(5)]


def test_whoever_still_uses_a_dropped_name_is_told_and_harms_nothing(engine: Engine, added: str, tenant: str) -> None:
    given = filled(engine, tenant, 3)
    engine.drop_vector(added)
    read = engine.write(
        [
            SetPayload({"before": 1}, within(tenant)),
            UpdateVectors(ids(given), NamedVectors(added, longer(3)), within(tenant)),
            UpdateVectors(ids(given)[:1], NamedVectors(FIRST, units(1, seed=5)), within(tenant)),
            SetPayload({"after": 1}, within(tenant, vector=FIRST)),
            SetPayload({"never": 1}, within(tenant, vector=added)),
        ],
        ids(given),
    )
    assert [({"before", "after"} & each.keys(), "never" in each) for each in read] == [({"before", "after"}, False)] * 3
    assert nearest(engine, tenant, FIRST, units(1, seed=5)) == [[0]]
    fresh = points(tenant, 1)
    same = PointFilter(tenant)
    for write in (
        Insert(fresh, NamedVectors(added, longer(1))),
        Insert([Point(fresh[0].id, fresh[0].payload, {added: longer(1)[0].tolist()})]),
        Replace(given[:1], same, NamedVectors(added, longer(1))),
    ):
        with pytest.raises(Unavailable, match=added):
            engine.write([write])
    with pytest.raises(Unavailable, match=added):
        nearest(engine, tenant, added, longer(1))
    assert engine.count(PointFilter(tenant, vector=FIRST)) == 3


def test_a_point_that_is_gone_takes_no_vector_and_one_that_is_replaced_loses_all(
    engine: Engine, added: str, tenant: str
) -> None:
    given = filled(engine, tenant, 3)
    give(engine, given[:2], added, longer(2))
    engine.write([Delete(PointFilter(tenant, ids=(given[0].id,)))])
    give(engine, given, added, longer(3, seed=4))
    assert engine.count(within(tenant)) == 2
    assert engine.count(PointFilter(tenant, vector=added)) == 2
    engine.write([Replace([Point(given[1].id, {**given[1].payload, "picture": "new"})], within(tenant))])
    picture = Clause("picture", FieldType.KEYWORD, (f"{tenant}/1",))
    engine.write([UpdateVectors([given[1].id], NamedVectors(added, longer(1)), within(tenant, [picture]))])
    assert engine.count(PointFilter(tenant, lacks=added, ids=(given[1].id,))) == 1
    assert engine.count(PointFilter(tenant, lacks=FIRST, ids=(given[1].id,))) == 1


# The embedded engine


def test_no_byte_of_what_was_dropped_is_left_after_a_compaction(folder: Path, edge: EdgeEngine) -> None:
    given, vectors = filled(edge, "t", 300), longer(300)
    edge.add_vector("other", LONGER)
    give(edge, given, "other", vectors)
    before = everything(edge)
    edge.compact()
    assert everything(edge) == before
    stored = [row["other"] for _, row in before.values()]
    there = bytes_below(folder)
    assert sum(each in there for each in stored) == 300
    edge.drop_vector("other")
    edge.compact()
    there = bytes_below(folder)
    gone = [*stored, *(row.tobytes() for row in vectors), *(row.astype(">f4").tobytes() for row in vectors)]
    assert not any(each in there for each in gone)
    assert b"other" not in there
    assert everything(edge) == {point: (payload, {FIRST: row[FIRST]}) for point, (payload, row) in before.items()}


def changed_while_copying(edge: EdgeEngine, page: int, change: "list[object]") -> list[int]:
    """Lets a compaction do something after it has copied some pages, once; returns how often it looked."""
    usual, looks = edge._compactor._check_stop, [0]

    def look() -> None:
        usual()
        looks[0] += 1
        if looks[0] == page:
            for each in change:
                each()  # type: ignore[operator]

    edge._compactor._check_stop = look  # type: ignore[method-assign]
    return looks


@pytest.mark.parametrize("page", [1, 3])
def test_a_name_that_is_added_while_a_copy_is_made_is_in_it(edge: EdgeEngine, page: int) -> None:
    given = filled(edge, "t", 500)
    change: list[object] = [lambda: edge.add_vector("other", LONGER), lambda: give(edge, given, "other", longer(500))]
    looks = changed_while_copying(edge, page, change)
    edge.compact()
    assert looks[0] > page
    assert edge.count(PointFilter(vector="other")) == edge.count(PointFilter(vector=FIRST)) == 500
    assert nearest(edge, "t", "other", longer(500)) == [[n] for n in range(500)]
    assert nearest(edge, "t", FIRST, units(500)) == [[n] for n in range(500)]
    assert len(list(edge._folder.glob("shard-*"))) == 1


@pytest.mark.parametrize("size", [LONGER, LONGER + 1])
def test_a_name_that_is_dropped_and_added_while_a_copy_is_made_is_empty_in_it(
    folder: Path, edge: EdgeEngine, size: int
) -> None:
    given, old = filled(edge, "t", 500), longer(500)
    edge.add_vector("other", LONGER)
    give(edge, given, "other", old)
    change: list[object] = [
        lambda: edge.drop_vector("other"),
        lambda: edge.add_vector("other", size),
        lambda: give(edge, given[:7], "other", units(7, 3, size)),
    ]
    changed_while_copying(edge, 3, change)
    edge.compact()
    assert edge.count(PointFilter(vector="other")) == 7
    assert nearest(edge, "t", "other", units(7, 3, size)) == [[n] for n in range(7)]
    there = bytes_below(folder)
    assert not any(row.tobytes() in there for row in old)


def test_an_index_is_built_over_two_names(edge: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "visual_memory.services.vector_engines.qdrant_edge.index_schedule.FULL_SCAN_KIB", 1
    )  # KiB: a hundred points are many
    given = filled(edge, "t", 400)
    edge.add_vector("other", LONGER)
    give(edge, given[:200], "other", longer(200))
    assert edge._compactor.is_due()
    edge._compactor.index()
    assert not edge._compactor.is_due(), "half of the points lack a vector, and none is outside"
    with edge._shards.use() as shard:
        assert shard.engine.info().indexed_vectors_count == 600
    give(edge, given[200:], "other", longer(200, seed=6))
    assert edge._compactor.is_due()
    edge._compactor.index()
    assert not edge._compactor.is_due()
    balanced = Search("other", within("t"), 1, Effort.BALANCED, ("number",))
    assert [each.columns["number"] for each in edge.query_batch(longer(200), balanced)] == [[n] for n in range(200)]
    edge.drop_vector("other")
    assert nearest(edge, "t", FIRST, units(400)) == [[n] for n in range(400)]
    edge.add_vector("other", LONGER)
    assert edge.count(PointFilter(vector="other")) == 0


def test_searches_under_one_name_go_on_while_another_comes_and_goes(edge: EdgeEngine) -> None:
    given = filled(edge, "t", 200)
    stop, wrong = threading.Event(), list[object]()

    def search() -> None:
        while not stop.is_set():
            if nearest(edge, "t", FIRST, units(200)[:20]) != [[n] for n in range(20)]:
                wrong.append("found others")

    thread = threading.Thread(target=search)
    thread.start()
    for _ in range(10):
        edge.add_vector("other", LONGER)
        give(edge, given, "other", longer(200))
        edge.drop_vector("other")
    stop.set()
    thread.join()
    assert wrong == []


# Kills

KILL = """
import os, pathlib, sys
from visual_memory.services.vector_engines.qdrant_edge import edge_engine as edge, shard_files as shards
folder, change, longer, step, when = sys.argv[1:]
engine = edge.EdgeEngine(pathlib.Path(folder))
owner = {"sync_shard": shards, "_record": shards.ShardFiles, "replace": pathlib.Path, "sync": shards}[step]
held = getattr(owner, step)
def die(*arguments, **named):
    if when == "after":
        held(*arguments, **named)
    os._exit(9)
setattr(owner, step, die)
engine.add_vector("other", int(longer)) if change == "add" else engine.drop_vector("other")
"""
KILLS = [(step, when) for step in ("_record", "replace", "sync") for when in ("before", "after")]


@pytest.mark.parametrize(
    ("change", "step", "when"),
    [("add", "sync_shard", "before"), *(("add", *each) for each in KILLS), *(("drop", *each) for each in KILLS)],
)
def test_a_kill_at_any_step_leaves_it_done_or_not(folder: Path, change: str, step: str, when: str) -> None:
    engine = EdgeEngine(folder / "data")
    Memory(engine, ENCODER, DIMENSION, METADATA).open()
    given = filled(engine, "t", 30)
    engine.add_vector("other", LONGER)
    give(engine, given, "other", longer(30))
    if change == "add":
        engine.drop_vector("other")
    engine.close()
    command = [sys.executable, "-c", KILL, str(folder / "data"), change, str(LONGER), step, when]
    assert subprocess.run(command, timeout=60, check=False).returncode == 9

    again = EdgeEngine(folder / "data")
    shape = again.inspect()
    assert shape is not None
    there = "other" in shape.vectors
    assert again.count(PointFilter(vector="other")) == (30 if there and change == "drop" else 0)
    assert again.count(PointFilter(vector=FIRST)) == 30
    if change == "drop":
        again.drop_vector("other")
    again.add_vector("other", LONGER)
    assert again.count(PointFilter(vector="other")) == 0
    give(again, given[:9], "other", longer(9, seed=8))
    again.close()
    last = EdgeEngine(folder / "data")
    assert nearest(last, "t", "other", longer(9, seed=8)) == [[n] for n in range(9)]
    assert last.count(PointFilter(vector="other")) == 9
    last.close()


def test_an_owner_that_is_killed_again_and_again_loses_and_mixes_nothing(folder: Path) -> None:
    """Names come, are filled, go and come again, with a kill after each: what was acknowledged counts, and no more."""
    with Owner(folder) as owner:
        engine: Any = EngineOwnerClient(owner.ready().socket, timeout=30)
        Memory(engine, ENCODER, DIMENSION, METADATA).open()
        given = filled(engine, "t", 200)

        def kill() -> None:
            owner.kill()
            owner.start()

        for turn in range(3):
            rows = longer(200, seed=20 + turn)
            engine.add_vector("other", LONGER)
            kill()
            give(engine, given[: 50 + turn], "other", rows[: 50 + turn])
            kill()
            assert nearest(engine, "t", "other", rows[: 50 + turn]) == [[n] for n in range(50 + turn)]
            assert engine.count(PointFilter(vector="other")) == 50 + turn
            if turn == 1:
                engine.compact()
                kill()
            engine.drop_vector("other")
            kill()
            assert engine.count(PointFilter(vector="other")) == 0
        held = everything(engine)
        assert {name for _, row in held.values() for name in row} == {FIRST}
        assert nearest(engine, "t", FIRST, units(200)) == [[n] for n in range(200)]
        engine.close()


def test_a_kill_in_the_middle_of_filling_keeps_what_was_acknowledged(folder: Path) -> None:
    with Owner(folder) as owner:
        engine: Any = EngineOwnerClient(owner.ready().socket, timeout=30)
        Memory(engine, ENCODER, DIMENSION, METADATA).open()
        given, rows = filled(engine, "t", 2000), longer(2000)
        engine.add_vector("other", LONGER)
        done = 0

        def kill() -> None:
            owner.kill()
            owner.start()

        killer = threading.Timer(0.3, kill)
        killer.start()
        while done < 2000:
            give(engine, given[done : done + 20], "other", rows[done : done + 20])
            done += 20
        killer.join()
        assert engine.count(PointFilter(vector="other")) == 2000
        for start in range(0, 2000, 500):
            found = nearest(engine, "t", "other", rows[start : start + 500])
            assert found == [[n] for n in range(start, start + 500)]
        assert engine.count(EVERY_POINT) == 2000
        engine.close()


def test_a_name_of_another_size_under_the_same_name_is_refused_by_its_vectors(edge: EdgeEngine) -> None:
    """The engine would lose the point's other vectors with a row of the wrong length."""
    given = filled(edge, "t", 3)
    edge.add_vector("other", LONGER)
    with pytest.raises(ValueError, match="numbers"):
        give(edge, given, "other", units(3))
    with pytest.raises(ValueError, match="numbers"):
        edge.write([Insert(points("t", 1), NamedVectors("other", units(1)))])
    assert edge.count(PointFilter(vector=FIRST)) == 3
    assert np.isclose(len(everything(edge)), 3)
