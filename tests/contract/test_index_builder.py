"""The index of the embedded engine: built beside the collection by another process, and nothing is lost meanwhile."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.support.memory_images import image, units
from tests.support.running_service import until
from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import INDEXES_IN_MEMORY
from visual_memory.services.memory.points.point_filters import within
from visual_memory.services.vector_engines.engine_contract import (
    EVERY_POINT,
    Delete,
    Index,
    Insert,
    NamedVectors,
    Point,
    PointFilter,
    Search,
    SetPayload,
    UpdateVectors,
    Vectors,
)
from visual_memory.services.vector_engines.qdrant_edge import compaction, index_schedule
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_edge.index_builder import build_index

VECTOR = "v"
DIMENSION = 32
COUNT = 600


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index pays for a few hundred points already."""
    monkeypatch.setattr(index_schedule, "FULL_SCAN_KIB", 100 * DIMENSION * index_schedule.BYTES / 1024)


@pytest.fixture
def edge(folder: Path) -> Iterator[EdgeEngine]:
    engine = taught(folder / "data")
    yield engine
    engine.close()


def taught(folder: Path) -> EdgeEngine:
    """An engine with some points, that looks whether an index is due when it is opened again."""
    engine = EdgeEngine(folder)
    engine.create(
        VECTOR, DIMENSION, {"tenant": Index(FieldType.KEYWORD, is_tenant=True), "half": Index(FieldType.INTEGER)}
    )
    engine.write([Insert(points(COUNT))])
    return engine


def points(count: int, first: int = 0) -> list[Point]:
    rows = units(first + count, dimension=DIMENSION)[first:]
    return [
        Point(point(number), {"tenant": "t", "number": number, "half": number % 2}, {VECTOR: row.tolist()})
        for number, row in enumerate(rows, start=first)
    ]


def point(number: int) -> str:
    return str(uuid.UUID(int=number))


def of(**values: int) -> PointFilter:
    return within("t", [Clause(field, FieldType.INTEGER, (value,)) for field, value in values.items()])


def indexed(engine: EdgeEngine) -> int:
    with engine._shards.use() as shard:
        return shard.engine.info().indexed_vectors_count


def found(engine: EdgeEngine, vectors: Vectors, k: int, effort: Effort) -> list[list[int]]:
    answers = engine.query_batch(vectors, Search(VECTOR, within("t"), k, effort, ("number",)))
    return [answer.columns["number"] for answer in answers]


def everything(engine: EdgeEngine) -> dict[str, object]:
    exported, cursor = engine.export(EVERY_POINT, 10_000, None)
    assert cursor is None
    return {each.id: (each.payload, np.array(each.vectors[VECTOR]).tobytes()) for each in exported}


def test_a_compaction_leaves_an_index_over_all_that_lives_as_it_was(edge: EdgeEngine) -> None:
    assert indexed(edge) == 0
    edge.write([Delete(of(half=0))])
    before, shape = everything(edge), edge.inspect()
    exactly = found(edge, units(20, seed=5, dimension=DIMENSION), 10, Effort.EXACT)
    edge.compact()
    assert indexed(edge) == COUNT // 2
    assert everything(edge) == before
    assert edge.inspect() == shape
    assert found(edge, units(20, seed=5, dimension=DIMENSION), 10, Effort.EXACT) == exactly


def test_the_words_find_what_they_promise(edge: EdgeEngine) -> None:
    edge.compact()
    asked = units(50, seed=5, dimension=DIMENSION)
    exactly = found(edge, asked, 50, Effort.EXACT)
    for effort, least in ((Effort.BALANCED, 0.99), (Effort.FAST, 0.9)):
        answers = found(edge, asked, 50, effort)
        hits = [len({*one} & {*other}) for one, other in zip(answers, exactly, strict=True)]
        assert np.mean(hits) >= least * 50


def test_what_comes_later_is_found_beside_the_index(edge: EdgeEngine) -> None:
    edge.compact()
    edge.write([Insert(points(5, first=COUNT))])
    edge.write([SetPayload({"half": 7}, within("t"))])
    asked = units(COUNT + 5, dimension=DIMENSION)[-5:]
    for effort in Effort:
        assert [answer[0] for answer in found(edge, asked, 1, effort)] == [*range(COUNT, COUNT + 5)]


def test_an_index_is_built_by_itself_where_too_many_points_are_outside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught(folder).close()
    monkeypatch.setattr(index_schedule, "LOOK_SECONDS", 0.05)
    engine = EdgeEngine(folder)
    until(lambda: indexed(engine) == COUNT, "an index")
    engine.write([Insert(points(100, first=COUNT))])  # no more than are compared one by one
    assert not engine._compactor.is_due()
    engine.write([Insert(points(30, first=COUNT + 100))])
    until(lambda: indexed(engine) == COUNT + 130, "another index")
    assert len(everything(engine)) == COUNT + 130
    engine.close()


def test_points_that_were_moved_out_of_the_index_count_too(edge: EdgeEngine) -> None:
    edge.compact()
    edge.write([SetPayload({"said": "so"}, of(half=1))])
    assert edge._compactor.is_due()
    edge.compact()
    assert not edge._compactor.is_due()
    assert indexed(edge) == COUNT


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Do something while an index is built."""

    def build(shard: Path, vectors: Mapping[str, int], check_stop: Callable[[], None]) -> None:
        work()
        build_index(shard, vectors, check_stop)

    monkeypatch.setattr(compaction, "build_index", build)


def test_what_is_written_during_the_building_is_there_afterwards(
    edge: EdgeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        edge.write([Insert(points(10, first=COUNT))])
        edge.write([Delete(of(number=0))])
        edge.write([SetPayload({"said": "late"}, of(number=1))])
        edge.write(
            [UpdateVectors([point(2)], NamedVectors(VECTOR, units(1, seed=9, dimension=DIMENSION)), within("t"))]
        )
        edge.index({"number": Index(FieldType.INTEGER)})

    edge.index({"number": Index(FieldType.INTEGER)})
    meanwhile(monkeypatch, write)
    edge.compact()
    assert COUNT - 3 <= indexed(edge) <= COUNT
    held = everything(edge)
    assert held.keys() == {point(number) for number in range(1, COUNT + 10)}
    assert held[point(1)][0]["said"] == "late"  # type: ignore[index]
    [answer] = found(edge, units(1, seed=9, dimension=DIMENSION), 1, Effort.BALANCED)
    assert answer == [2]


def test_a_builder_that_dies_keeps_no_compaction_from_erasing(
    edge: EdgeEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visual_memory.services.vector_engines.qdrant_edge.index_builder.sys.executable", "false")
    edge.write([SetPayload({"said": "marker-gone"}, of(number=1))])
    edge.write([Delete(of(number=1))])
    before = everything(edge)
    edge.compact()
    assert indexed(edge) == 0
    assert everything(edge) == before
    assert len(list((folder / "data").glob("shard-*"))) == 1
    assert not any(b"marker-gone" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_an_ending_breaks_the_building_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = taught(folder)
    before = everything(engine)
    meanwhile(monkeypatch, engine._ending.set)
    with pytest.raises(Unavailable, match="ends in the middle"):
        engine.compact()
    engine.close()
    again = EdgeEngine(folder)
    assert everything(again) == before
    assert len(list(folder.glob("shard-*"))) == 1
    again.close()


def test_what_few_searches_ask_for_is_left_to_the_cache_and_stays_so(folder: Path) -> None:
    edge = EdgeEngine(folder / "data")
    memory = Memory(edge, "e", DIMENSION, {kind: kind for kind in FieldType})
    memory.open()

    def held() -> dict[str, bool]:
        with edge._shards.use() as shard:
            schema = shard.engine.info().payload_schema
        return {field: index.params is None or index.params.memory is None for field, index in schema.items()}

    at_hand = {field for field, in_memory in held().items() if in_memory}
    assert at_hand == {"tenant", *INDEXES_IN_MEMORY}
    memory.writes.put([image("t", "a", metadata={"integer": 1})])
    before = held()
    memory.compact()
    assert held() == before
    memory.close()
