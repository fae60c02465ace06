"""The memory over every engine."""

import base64
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from itertools import repeat
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import pytest

from tests.contract.conftest import ENGINES
from tests.support.memory_images import (
    DIMENSION,
    ENCODER,
    METADATA,
    clauses,
    delete_marked,
    image,
    mute,
    put,
    reject,
    units,
)
from visual_memory.schemas.classify_options import Effort, GroupBy
from visual_memory.schemas.errors import (
    Conflict,
    EncoderMismatch,
    InvalidCursor,
    InvalidFilter,
    InvalidRequest,
    InvalidVector,
    NotFound,
)
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State, StoredImage, point_id
from visual_memory.schemas.image_search import ImageSort, SimilarTo
from visual_memory.schemas.moments import now
from visual_memory.services.memory import ordered_images
from visual_memory.services.memory.conditional_writes import PutResult, with_new_revisions
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.nearest_neighbours import Hits
from visual_memory.services.memory.points.point_filters import marked_by, within
from visual_memory.services.memory.points.point_payload import to_point
from visual_memory.services.memory.store_embeddings import NotRemembered
from visual_memory.services.vector_engines.engine_contract import Engine, Payload, Replace, SetPayload, Vectors, Write
from visual_memory.services.vector_engines.hnsw_parameters import EFFORTS

pytestmark = [  # what local mode says of what it does not need
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
INDEXING = THREADED = [name for name in ENGINES if name != "local"]  # local mode has no indexes, and no locks
REMEMBERED = {"state": State.REMEMBERED, "encoder": ENCODER}
CAPTURED = datetime(2025, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def remembered(memory: Memory, tenant: str, count: int, **fields: Any) -> tuple[list[StoredImage], Vectors]:
    images = [image(tenant, f"i{n:03}", **fields) for n in range(count)]
    vectors = units(count, seed=count)
    put(memory, images)
    assert memory.embeddings.store(images, vectors) == count
    return images, vectors


def everything(memory: Memory, tenant: str, filtered: list[Clause] | None = None, limit: int = 7) -> list[str]:
    found, cursor = memory.images.page(tenant, filtered or [], limit)
    while cursor:
        more, cursor = memory.images.page(tenant, filtered or [], limit, cursor)
        found += more
    return [each.image_id for each in found]


# Opening


def test_opening_again_changes_nothing(engine: Engine, memory: Memory) -> None:
    before = engine.inspect()
    Memory(engine, ENCODER, DIMENSION, METADATA).open()
    assert before is not None
    assert engine.inspect() == before
    assert list(before.vectors.values()) == [DIMENSION]


@pytest.mark.parametrize("engine", INDEXING, indirect=True, scope="module")
def test_opening_indexes_newly_declared_metadata(engine: Engine, memory: Memory) -> None:
    Memory(engine, ENCODER, DIMENSION, {**METADATA, "lens": FieldType.KEYWORD}).open()
    shape = engine.inspect()
    assert shape is not None
    assert shape.indexes["metadata.lens"] == "keyword"
    assert shape.indexes["metadata.count"] == "integer"


@pytest.mark.parametrize(("name", "dimension"), [("another", DIMENSION), (ENCODER, DIMENSION + 1)])
def test_another_encoder_is_refused(engine: Engine, memory: Memory, name: str, dimension: int) -> None:
    with pytest.raises(EncoderMismatch) as refused:
        Memory(engine, name, dimension, METADATA).open()
    assert name in refused.value.message
    assert ENCODER in refused.value.message


# Images


def test_an_image_comes_back_as_it_was_put(memory: Memory, tenant: str) -> None:
    full = image(
        tenant,
        "full",
        labels=["animal/cat", "Ünïcode ✓"],
        source="camera-1",
        subject="Ann",
        captured_at=CAPTURED,
        metadata={"camera": "a", "count": -(2**63), "weight": 0.1, "indoor": False, "undeclared": "x", "whole": 5.0},
        attempts=2,
    )
    bare = image(tenant, "bare")
    put(memory, [full, bare])
    assert memory.images.get(tenant, ["full", "bare", "bare", "none"]) == {"full": full, "bare": bare}
    assert type(memory.images.get(tenant, ["full"])["full"].metadata["whole"]) is float


def test_absent_fields_are_left_out_and_moments_are_utc(engine: Engine, memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, "a", labels=["x/y"], captured_at=CAPTURED)])
    (payload,) = engine.retrieve([point_id(tenant, "a")])
    assert {"source", "subject", "metadata", "reason", "encoder", "removal"}.isdisjoint(payload)
    assert payload["captured_at"] == "2025-12-31T18:29:59.999999+00:00"
    assert payload["label_paths"] == ["x", "x/y"]


def test_nothing_to_do_is_no_error(memory: Memory, tenant: str) -> None:
    memory.writes.put([])
    assert memory.leases.begin([]) == []
    memory.leases.release([])
    memory.writes.delete([])
    assert memory.embeddings.store([], units(0)) == 0
    assert memory.images.get(tenant, []) == {}
    assert memory.search.nearest(tenant, units(0), 5) == []
    assert memory.search.nearest(tenant, units(2), 5) == [[], []]


def test_a_cursor_walks_everything_exactly_once(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}", source="even" if n % 2 == 0 else None) for n in range(23)]
    put(memory, images)
    for limit in (1, 7, 23, 24):
        assert sorted(everything(memory, tenant, limit=limit)) == sorted(each.image_id for each in images)
    assert len(everything(memory, tenant, clauses(source="even"))) == 12


def test_a_cursor_outlives_the_image_it_points_at(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, f"i{n}") for n in range(10)])
    first, cursor = memory.images.page(tenant, [], 4)
    second, _ = memory.images.page(tenant, [], 4, cursor)
    memory.marks.mark(tenant, clauses(image_id=second[0].image_id), "r")
    delete_marked(memory, tenant, "r")
    rest, end = memory.images.page(tenant, [], 10, cursor)
    assert end is None
    assert len(rest) == 5
    assert not {each.image_id for each in first} & {each.image_id for each in rest}


@pytest.mark.parametrize("cursor", ["", "x", "not a cursor at all", "AAAA", "é" * 22, "A" * 23, "A" * 400])
def test_a_bad_cursor_is_refused(memory: Memory, tenant: str, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        memory.images.page(tenant, [], 5, cursor)


SORTS: tuple[ImageSort, ...] = get_args(ImageSort)


def in_order(memory: Memory, tenant: str, sort: ImageSort, limit: int, **conditions: Any) -> list[str]:
    found, cursor = memory.in_order.page(tenant, clauses(**conditions), sort, limit)
    while cursor:
        more, cursor = memory.in_order.page(tenant, clauses(**conditions), sort, limit, cursor)
        found += more
    return [each.image_id for each in found]


def test_images_come_in_the_order_that_is_asked_for_and_undated_ones_last(memory: Memory, tenant: str) -> None:
    days = {"a": (1, 9), "b": (2, 8), "c": (2, None), "d": (2, 8), "e": (3, 7)}
    dated = {
        name: {
            "accepted_at": datetime(2026, 1, accepted, tzinfo=UTC),
            "captured_at": captured and datetime(2025, 1, captured, tzinfo=UTC),
        }
        for name, (accepted, captured) in days.items()
    }
    put(memory, [image(tenant, name, labels=["x" if name < "d" else "y"], **fields) for name, fields in dated.items()])
    by_point = {name: point_id(tenant, name) for name in days}
    b_c_d, b_d = (sorted(names, key=by_point.__getitem__) for names in ("bcd", "bd"))
    expected = {
        "accepted_at": ["a", *b_c_d, "e"],
        "-accepted_at": ["e", *b_c_d, "a"],
        "captured_at": ["e", *b_d, "a", "c"],
        "-captured_at": ["a", *b_d, "e", "c"],
    }
    for sort in SORTS:
        for limit in (1, 2, 5, 6):
            assert in_order(memory, tenant, sort, limit) == expected[sort]
        assert in_order(memory, tenant, sort, 1, labels="x") == [each for each in expected[sort] if each < "d"]


def test_a_cursor_is_of_one_order(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, name) for name in "abc"])
    for sort in SORTS:
        _, cursor = memory.in_order.page(tenant, [], sort, 1)
        for other in (*{*SORTS} - {sort}, None):
            with pytest.raises(InvalidCursor):
                memory.images.page(tenant, [], 1, cursor) if other is None else memory.in_order.page(
                    tenant, [], other, 1, cursor
                )
    for wrong in ("", "x", "é" * 22, "A" * 22, "A" * 400, cursor_at("accepted_at", 2**62)):
        with pytest.raises(InvalidCursor):
            memory.in_order.page(tenant, [], "accepted_at", 1, wrong)


def cursor_at(sort: ImageSort, microseconds: int) -> str:
    packed = struct.pack(">Bq16s", SORTS.index(sort), microseconds, bytes(16))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def test_a_total_is_exact_until_counting_is_dear(memory: Memory, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(memory, [image(tenant, f"i{n}", source="even" if n % 2 == 0 else None) for n in range(9)])
    assert memory.in_order.total(tenant, clauses(source="even")) == (5, False)
    monkeypatch.setattr(ordered_images, "COUNTED", 0)
    number, is_estimate = memory.in_order.total(tenant, [])
    assert is_estimate
    assert number == pytest.approx(9, abs=3)


def test_the_most_similar_images_are_found_whether_they_vote_or_not(memory: Memory, tenant: str) -> None:
    images, vectors = remembered(memory, tenant, 12)
    mute(memory, tenant, clauses(image_id=["i003", "i004"]))
    memory.marks.mark(tenant, clauses(image_id="i005"), "r")
    put(memory, [image(tenant, "waits")])
    near = [n for n in np.argsort(-vectors @ vectors[7], kind="stable").tolist() if n != 5]
    expected: list[Any] = [(images[n].image_id, pytest.approx(float(vectors[n] @ vectors[7]), abs=1e-5)) for n in near]

    def found(limit: int, **to: Any) -> list[tuple[str, float]]:
        return [
            (each.image_id, similarity) for each, similarity in memory.similar.nearest(tenant, SimilarTo(**to), limit)
        ]

    assert found(99, image_id="i007") == [each for each in expected if each[0] != "i007"]
    assert found(3, image_id="i007") == [each for each in expected if each[0] != "i007"][:3]
    assert found(3, vector=(vectors[7] * 2).tolist()) == expected[:3]
    [(only, _)] = memory.similar.nearest(tenant, SimilarTo(image_id="i007"), 9, clauses(image_id=["i007", "i004"]))
    assert (only.image_id, only.state) == ("i004", State.MUTED)
    refusals: dict[type[Exception], dict[str, Any]] = {
        NotFound: {"image_id": "none"},
        Conflict: {"image_id": "waits"},
        InvalidVector: {"vector": [1.0]},
    }
    for error, to in refusals.items():
        with pytest.raises(error):
            found(1, **to)
    with pytest.raises(InvalidVector):
        found(1, vector=[0.0] * DIMENSION)


# Amending


def test_amending_replaces_the_fields_as_a_whole(engine: Engine, memory: Memory, tenant: str) -> None:
    before = image(
        tenant,
        "a",
        labels=["a/b"],
        source="s",
        subject="Ann",
        captured_at=CAPTURED,
        metadata={"camera": "1", "count": 2},
    )
    after = before.model_copy(
        update={"labels": ["c/d"], "source": None, "subject": "Bob", "captured_at": None, "metadata": {"count": 3}}
    )
    put(memory, [before])
    amended = memory.writes.amend(before, after)
    assert amended is not None
    assert memory.images.get(tenant, ["a"]) == {"a": amended}
    assert amended.model_copy(update={"revision": 0}) == after
    assert everything(memory, tenant, clauses(labels="c")) == ["a"]
    assert everything(memory, tenant, clauses(labels="a")) == []
    assert everything(memory, tenant, clauses(metadata_camera={"not": "1"}, source={"not": "s"})) == ["a"]
    assert memory.writes.amend(amended, after.model_copy(update={"metadata": {}}))
    (payload,) = engine.retrieve([point_id(tenant, "a")])
    assert {"source", "captured_at", "metadata"}.isdisjoint(payload)


def test_amending_keeps_vector_and_state(memory: Memory, tenant: str) -> None:
    (old,), vectors = remembered(memory, tenant, 1)
    assert memory.writes.amend(old, old.model_copy(update={"labels": ["dog"], "state": State.REJECTED, "attempts": 9}))
    assert memory.search.nearest(tenant, vectors, 1)[0][0].labels == ("dog",)


def test_of_two_who_amend_the_same_one_does_and_the_other_is_told(memory: Memory, tenant: str) -> None:
    read = image(tenant, "a")
    put(memory, [read])
    first = memory.writes.amend(read, read.model_copy(update={"subject": "Ann"}))
    assert first is not None
    assert first.revision > read.revision
    second = read.model_copy(update={"source": "s"})
    placed = memory.writes.put((), amended=[(read, second)])
    assert (placed.overtaken, placed.after) == (("a",), {"a": first})
    again = memory.writes.amend(first, first.model_copy(update={"source": "s"}))
    assert again is not None
    assert (again.subject, again.source) == ("Ann", "s")
    assert again.revision > first.revision


def test_what_is_amended_since_it_was_read_is_not_replaced(memory: Memory, tenant: str) -> None:
    """What a resend leaves out is taken over from what was read, so that must still be so."""
    read, new = image(tenant, "a"), image(tenant, "a", labels=["new"])
    put(memory, [read])
    amended = memory.writes.amend(read, read.model_copy(update={"subject": "Ann"}))
    assert amended is not None
    placed = memory.writes.put([new], {"a": read})
    assert (placed.overtaken, placed.unreferenced, placed.after) == (("a",), (new.picture,), {"a": amended})
    assert not memory.writes.put([new], {"a": amended}).overtaken
    assert memory.images.get(tenant, ["a"]) == {"a": new}


def test_all_who_amend_at_once_and_look_again_are_heard(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, "a")])

    def add(number: int) -> None:
        done = None
        while done is None:
            held = memory.images.get(tenant, ["a"])["a"]
            done = memory.writes.amend(
                held, held.model_copy(update={"metadata": {**held.metadata, f"n{number}": number}})
            )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(24)))
    assert memory.images.get(tenant, ["a"])["a"].metadata == {f"n{number}": number for number in range(24)}


def test_a_change_spares_what_was_amended_since_it_was_read(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}", source="s") for n in range(3)]
    put(memory, images)
    memory.writes.amend(images[1], images[1].model_copy(update={"subject": "Ann"}))
    memory.marks.mark(tenant, clauses(image_id="i2"), "r")
    pairs = with_new_revisions([(each, each.changed({"labels": ["dog"]}, now())) for each in images])
    after = memory.writes.change(pairs, ("labels",))
    assert {name: (each.labels, each.subject) for name, each in after.items()} == {
        "i0": (["dog"], None),
        "i1": (["cat"], "Ann"),
        "i2": (["cat"], None),
    }
    assert after["i0"].history[0].labels == ["cat"]
    assert after["i0"].revision == pairs[0][1].revision


def test_amending_spares_what_was_replaced_or_deleted(memory: Memory, tenant: str) -> None:
    old, new = image(tenant, "a", subject="old"), image(tenant, "a", subject="new")
    put(memory, [old])
    put(memory, [new])
    assert not memory.writes.amend(old, old.model_copy(update={"subject": "changed"}))
    assert memory.images.get(tenant, ["a"]) == {"a": new}
    memory.marks.mark(tenant, [], "r")
    delete_marked(memory, tenant, "r")
    assert not memory.writes.amend(new, new.model_copy(update={"subject": "changed"}))
    assert memory.images.get(tenant, ["a"]) == {}


def test_a_search_as_of_a_moment_finds_the_labels_of_then(memory: Memory, tenant: str) -> None:
    (old, late, lost), vectors = remembered(memory, tenant, 3)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    becomes = old.changed({"labels": ["dog"]}, noon).changed({"labels": ["owl"]}, noon + hour)
    changed = memory.writes.amend(old, becomes)
    assert changed is not None
    assert changed.model_copy(update={"revision": 0}) == becomes.model_copy(update=REMEMBERED)
    put(memory, [late.model_copy(update={"accepted_at": noon})])
    memory.embeddings.store([late], vectors[1:2])
    unknown = lost.model_copy(update={"known_since": noon + hour})
    assert memory.writes.amend(lost, unknown)

    def seen(moment: datetime) -> dict[str, tuple[str, ...]]:
        [hits] = memory.search.nearest(tenant, vectors[:1], 9, effort=Effort.EXACT, as_of=moment)
        return {hit.image_id: hit.labels for hit in hits}

    a, b, c = old.image_id, late.image_id, lost.image_id
    assert seen(old.accepted_at) == {a: ("cat",)}
    assert seen(noon) == {a: ("dog",), b: ("cat",)}
    assert seen(noon + hour) == {a: ("owl",), b: ("cat",), c: ("cat",)}
    assert memory.writes.amend(changed, old)
    assert memory.images.get(tenant, [a])[a].history == []
    assert seen(noon) == {a: ("cat",), b: ("cat",)}


# Remembering


def test_remembering_gives_vector_state_and_encoder(memory: Memory, tenant: str) -> None:
    waiting = image(tenant, "a", attempts=2)
    put(memory, [waiting])
    assert memory.search.nearest(tenant, units(1), 5) == [[]]
    assert memory.embeddings.store([waiting], units(1)) == 1
    held = memory.images.get(tenant, ["a"])["a"]
    assert held == waiting.model_copy(update={"state": State.REMEMBERED, "encoder": ENCODER, "attempts": 0})
    ((hit,),) = memory.search.nearest(tenant, units(1), 5)
    assert (hit.image_id, hit.labels) == ("a", ("cat",))
    assert 1 - 1e-5 < hit.similarity <= 1


def test_a_deleted_image_stays_gone_and_its_batch_mates_are_remembered(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}", subject="Ann" if n in {0, 2, 5} else None) for n in range(6)]
    put(memory, images)
    memory.marks.mark(tenant, clauses(subject="Ann"), "r")
    delete_marked(memory, tenant, "r")
    assert memory.embeddings.store(images, units(6)) == 3
    assert memory.images.get(tenant, [each.image_id for each in images]).keys() == {"i1", "i3", "i4"}
    assert memory.images.count_by_state(tenant) == {State.REMEMBERED: 3}
    assert memory.embeddings.store([images[0]], units(1)) == 0
    assert memory.images.count(tenant) == 3


def test_a_replaced_image_loses_its_vector_and_takes_no_old_one(memory: Memory, tenant: str) -> None:
    (old,), vectors = remembered(memory, tenant, 1)
    new = image(tenant, old.image_id)
    put(memory, [new])
    assert memory.search.nearest(tenant, vectors, 1) == [[]]
    assert memory.embeddings.store([old], vectors) == 0
    assert memory.images.get(tenant, [new.image_id]) == {new.image_id: new}
    assert memory.embeddings.store([new], -vectors) == 1
    assert memory.search.nearest(tenant, vectors, 1)[0][0].similarity == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize("state", [State.REJECTED, State.MUTED])
def test_only_what_waits_is_remembered(memory: Memory, tenant: str, state: State) -> None:
    other = image(tenant, "a", state=state)
    put(memory, [other])
    assert memory.embeddings.store([other], units(1)) == 0
    reject(memory, other, "too late")
    assert memory.leases.begin([other]) == []
    assert memory.images.get(tenant, ["a"]) == {"a": other}


def test_of_all_who_put_at_once_every_picture_but_one_is_told_unreferenced(memory: Memory, tenant: str) -> None:
    """Promise 2: a picture whose point was replaced without anyone knowing could never be removed."""
    versions = [image(tenant, "same", content_hash=f"{number:064d}") for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        placed = list(threads.map(put, repeat(memory), [[each] for each in versions]))
    told = {picture for each in placed for picture in each.unreferenced}
    left = memory.images.get(tenant, ["same"])["same"]
    assert told == {each.picture for each in versions} - {left.picture}
    assert not any(each.being_removed for each in placed)
    assert all(each.overtaken or each.after["same"].picture not in each.unreferenced for each in placed)


def test_remembering_again_changes_nothing(memory: Memory, tenant: str) -> None:
    (held,), vectors = remembered(memory, tenant, 1)
    assert memory.embeddings.store([held], -vectors) == 1
    assert memory.search.nearest(tenant, vectors, 1)[0][0].similarity == pytest.approx(1, abs=1e-5)


def test_a_point_put_again_between_the_two_steps_waits_on(engine: Engine, tenant: str, memory: Memory) -> None:
    """The same picture is put again, as a retry does, after the vector was written and before the state is."""
    waiting = image(tenant, "a")

    class Interrupted:
        def write(self, writes: Sequence[Write], *given: Any) -> list[Payload]:
            for write in writes:
                if isinstance(write, SetPayload):
                    engine.write([Replace([to_point(waiting)], within(tenant))])
                engine.write([write])
            return engine.write([], *given)

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

    put(memory, [waiting])
    late: Any = Interrupted()
    assert Memory(late, ENCODER, DIMENSION, METADATA).embeddings.store([waiting], units(1)) == 0
    assert memory.images.count_by_state(tenant) == {State.WAITING: 1}


def _spoilt(value: float) -> Vectors:
    vectors = units(2)
    vectors[1, 3] = value
    return vectors


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(_spoilt(np.nan), id="nan"),
        pytest.param(_spoilt(np.inf), id="infinite"),
        pytest.param(units(2) * np.array([[1], [0]], np.float32), id="zero"),
        pytest.param(units(2) * np.float32(1.01), id="not unit"),
        pytest.param(units(1), id="too few"),
        pytest.param(units(3), id="too many"),
        pytest.param(units(2, dimension=DIMENSION + 1), id="too long"),
        pytest.param(units(2)[0], id="one-dimensional"),
        pytest.param(units(2).astype(np.float64), id="float64"),
    ],
)
def test_a_bad_vector_is_refused(memory: Memory, tenant: str, vectors: Any) -> None:
    images = [image(tenant, "a"), image(tenant, "b")]
    put(memory, images)
    with pytest.raises(InvalidVector):
        memory.embeddings.store(images, vectors)
    assert memory.images.count_by_state(tenant) == {State.WAITING: 2}


@pytest.mark.parametrize("query", [_spoilt(np.nan), units(1) * 0, units(1, dimension=3), units(1)[0]])
def test_a_bad_query_is_refused(memory: Memory, tenant: str, query: Any) -> None:
    with pytest.raises(InvalidVector):
        memory.search.nearest(tenant, query, 5)


def test_under_a_filter_by_labels_or_a_range_a_search_looks_farther(
    engine: Engine, memory: Memory, tenant: str
) -> None:
    images, vectors = remembered(memory, tenant, 3, labels=["animal/cat"])
    with patch.object(engine, "query_batch", wraps=engine.query_batch) as asked:
        nearby: list[dict[str, Any]] = [{}, {"source": {"not": "x"}}]
        far: list[dict[str, Any]] = [
            {"labels": "animal"},
            {"labels": {"not": "dog"}},
            {"accepted_at": {"lte": "2027-01-01T00:00:00Z"}},
        ]
        for conditions in [*nearby, *far]:
            [hits] = memory.search.nearest(tenant, vectors[:1], 9, clauses(**conditions))
            assert len(hits) == len(images)
        memory.search.nearest(tenant, vectors[:1], 9, as_of=datetime.now(UTC))
    assert [call.args[1].far for call in asked.call_args_list] == [False, False, True, True, True, True]
    reach = EFFORTS[Effort.BALANCED]
    assert reach.ef(far=True) > reach.ef(far=False)


def test_rejecting(memory: Memory, tenant: str) -> None:
    old = image(tenant, "a")
    put(memory, [old])
    assert reject(memory, old, "it is no picture")
    rejected = old.model_copy(update={"state": State.REJECTED, "reason": "it is no picture"})
    assert memory.images.get(tenant, ["a"]) == {"a": rejected}
    new = image(tenant, "a")
    put(memory, [new])
    assert not reject(memory, old, "the old picture was bad")
    assert memory.images.get(tenant, ["a"]) == {"a": new}


def test_of_two_workers_one_begins(memory: Memory, tenant: str) -> None:
    images = [image(tenant, name, attempts=n) for n, name in enumerate("abc")]
    put(memory, images)
    first = memory.leases.begin(images[:2])
    assert [(each.image_id, each.attempts) for each in first] == [("a", 1), ("b", 2)]
    assert [each.image_id for each in memory.leases.begin(images)] == ["c"]
    second = memory.leases.begin(first)  # it was left lying, and is begun again
    assert [each.attempts for each in second] == [2, 3]
    memory.leases.release(first)  # late: it is in other hands
    assert memory.images.get(tenant, ["a"])["a"] == second[0]
    memory.leases.release(second)
    held = memory.images.get(tenant, ["a"])["a"]
    assert (held.attempts, held.begun_at) == (1, None)


def test_what_was_begun_is_remembered_or_rejected(memory: Memory, tenant: str) -> None:
    images = [image(tenant, "a"), image(tenant, "b")]
    put(memory, images)
    first, second = memory.leases.begin(images)
    assert memory.embeddings.store([first], units(1)) == 1
    assert reject(memory, second, "bad")
    memory.leases.release([first, second])
    held = memory.images.get(tenant, ["a", "b"])
    assert [(held[name].begun_at, held[name].state) for name in "ab"] == [
        (None, State.REMEMBERED),
        (None, State.REJECTED),
    ]


def test_deleting_spares_what_was_replaced(memory: Memory, tenant: str) -> None:
    images = [image(tenant, "a"), image(tenant, "b")]
    put(memory, images)
    new = image(tenant, "b")
    put(memory, [new])
    memory.writes.delete(images)
    assert memory.images.get(tenant, ["a", "b"]) == {"b": new}


LEASE = timedelta(minutes=1)


def test_what_waits_is_found_in_the_order_in_which_it_was_accepted(memory: Memory, tenant: str) -> None:
    start = datetime(1990, 1, 1, tzinfo=UTC)
    images = [image(tenant, name, accepted_at=start + timedelta(microseconds=n)) for n, name in enumerate("bdac")]
    put(memory, [*reversed(images)])
    put(memory, [image(f"{tenant}-other", "e", accepted_at=start)])
    memory.embeddings.store(images[1:2], units(1))
    assert memory.leases.oldest_waiting(tenant, 10, LEASE) == [images[0], images[2], images[3]]
    assert memory.leases.oldest_waiting(tenant, 2, LEASE) == [images[0], images[2]]


def test_a_tenant_has_work_while_images_wait_that_nobody_has_in_hand(memory: Memory, tenant: str) -> None:
    images = [image(tenant, "a"), image(tenant, "b")]
    put(memory, images)
    assert tenant in memory.leases.tenants_with_waiting(LEASE)
    begun = memory.leases.begin(images)
    assert tenant not in memory.leases.tenants_with_waiting(LEASE)
    assert memory.leases.oldest_waiting(tenant, 10, LEASE) == []
    assert len(memory.leases.oldest_waiting(tenant, 10, timedelta(0))) == 2, "their lease has ended"
    memory.leases.release(begun[:1])
    assert [each.image_id for each in memory.leases.oldest_waiting(tenant, 10, LEASE)] == ["a"]
    assert tenant in memory.leases.tenants_with_waiting(LEASE)
    memory.embeddings.store(begun[1:], units(1))
    memory.writes.delete(begun[:1])
    assert tenant not in memory.leases.tenants_with_waiting(LEASE)


def test_a_clock_that_was_set_back_leases_nothing_for_ever(memory: Memory, tenant: str) -> None:
    ahead = [image(tenant, "near", begun_at=now() + LEASE / 2), image(tenant, "far", begun_at=now() + 2 * LEASE)]
    put(memory, ahead)
    assert [each.image_id for each in memory.leases.oldest_waiting(tenant, 10, LEASE)] == ["far"]
    assert [each.image_id for each in memory.leases.begin(ahead[1:])] == ["far"]


def test_a_lease_that_ended_writes_nothing(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, "a"), image(tenant, "b")])
    late = memory.leases.begin(memory.leases.oldest_waiting(tenant, 10, LEASE))
    held = memory.leases.begin(late)  # by another worker, once the first one's lease has ended
    others = NotRemembered(rejected=[(late[1], "late")])
    assert memory.embeddings.store(late[:1], units(1), others=others) == 0
    assert memory.images.get(tenant, ["a", "b"]) == {each.image_id: each for each in held}


def test_images_are_rejected_released_and_postponed_with_those_that_are_remembered(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, name) for name in "abcd"])
    a, b, c, d = sorted(
        memory.leases.begin(memory.leases.oldest_waiting(tenant, 10, LEASE)), key=lambda each: each.image_id
    )
    assert memory.embeddings.store([a], units(1), others=NotRemembered([(b, "bad")], [c], [d])) == 1
    held = memory.images.get(tenant, "abcd")
    assert [held[name].state.value for name in "abcd"] == ["remembered", "rejected", "waiting", "waiting"]
    assert [held[name].begun_at for name in "abcd"] == [None, None, None, d.begun_at]
    assert {(held[name].attempts, held[name].lease) for name in "acd"} == {(0, None)}


# Searching


def nearest_by_hand(images: list[StoredImage], vectors: Vectors, query: Vectors, k: int) -> list[tuple[str, Any]]:
    similarities = vectors.astype(np.float64) @ query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    return [(images[n].image_id, pytest.approx(similarities[n], abs=1e-5)) for n in np.argsort(-similarities)[:k]]


def found(answers: list[Hits]) -> list[list[tuple[str, float]]]:
    return [[(hit.image_id, hit.similarity) for hit in answer] for answer in answers]


@pytest.mark.parametrize("effort", Effort)
def test_searching_finds_the_nearest(memory: Memory, tenant: str, effort: Effort) -> None:
    images = [image(tenant, f"i{n:03}", labels=[f"x/{n % 3}"], metadata={"count": n}) for n in range(200)]
    vectors, queries = units(200, seed=1), units(5, seed=2) * np.float32(3)
    put(memory, images)
    memory.embeddings.store(images, vectors)
    for k in (1, 10, 300):
        answers = memory.search.nearest(tenant, queries, k, effort=effort)
        assert found(answers) == [nearest_by_hand(images, vectors, query, k) for query in queries]
    few = [n for n in range(200) if n % 3 == 1 and n >= 50]
    answers = memory.search.nearest(
        tenant, queries, 20, clauses(labels="x/1", metadata_count={"gte": 50}), effort=effort
    )
    assert found(answers) == [nearest_by_hand([images[n] for n in few], vectors[few], query, 20) for query in queries]
    assert memory.search.nearest(tenant, queries, 20, clauses(labels="x/9"), effort=effort) == [[]] * 5


def test_equal_similarities_come_by_image_id(memory: Memory, tenant: str) -> None:
    images = [image(tenant, name) for name in "cab"]
    put(memory, images)
    memory.embeddings.store(images, np.repeat(units(1), 3, axis=0))
    assert [hit.image_id for hit in memory.search.nearest(tenant, units(1), 5)[0]] == ["a", "b", "c"]


def test_of_too_many_that_are_equally_near_four_times_k_are_looked_at(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n:02}") for n in range(30)]
    memory.writes.put(images)
    memory.embeddings.store(images, np.repeat(units(2), [25, 5], axis=0))
    [near, far] = memory.search.nearest(tenant, units(2), 5, effort=Effort.EXACT)
    assert (near.truncated, len(near)) == (True, 5)
    assert {hit.image_id for hit in near} < {f"i{n:02}" for n in range(25)}
    assert [hit.image_id for hit in near] == sorted(hit.image_id for hit in near)
    assert (far.truncated, [hit.image_id for hit in far]) == (False, [f"i{n:02}" for n in range(25, 30)])
    [near, far] = memory.search.nearest(tenant, units(2), 7, effort=Effort.EXACT)
    assert (near.truncated, [hit.image_id for hit in near]) == (False, [f"i{n:02}" for n in range(7)])
    assert far.truncated, "behind the five there are 25 that are equally near, one more than are looked at with them"


def test_copies_of_a_content_count_once(memory: Memory, tenant: str) -> None:
    contents = ["aaaa", "aaaa", "bbbb", "aaaa", "cccc", "dddd"]
    images = [image(tenant, f"i{n}", content_hash=content) for n, content in enumerate(contents)]
    memory.writes.put(images)
    memory.embeddings.store(images, units(4)[[0, 0, 1, 0, 2, 3]])
    query = units(4).T @ np.array([8, 4, 2, 1], np.float32)
    ordered = sorted({0, 1, 2, 3}, key=lambda row: -float(units(4)[row] @ query))
    by_content = {content: [f"i{n}" for n, each in enumerate(contents) if each == content] for content in contents}
    expected = [each for row in ordered[:2] for each in by_content["abcd"[row] * 4]]
    [hits] = memory.search.nearest(tenant, query[None], 2, effort=Effort.EXACT)
    assert ([hit.image_id for hit in hits], hits.truncated) == (expected, False)
    [alone] = memory.search.nearest(tenant, query[None], 2, effort=Effort.EXACT, group_by=GroupBy.NONE)
    assert [hit.image_id for hit in alone] == [each for row in ordered for each in by_content["abcd"[row] * 4]][:2]


def test_what_is_left_out_is_passed_over_and_too_much_of_it_is_told(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n:02}") for n in range(20)]
    vectors = units(20)
    memory.writes.put(images)
    memory.embeddings.store(images, vectors)
    ordered = [image_id for image_id, _ in nearest_by_hand(images, vectors, vectors[0], 20)]

    def nearest(k: int, without: int) -> tuple[list[str], bool]:
        gone = set(ordered[:without])
        [hits] = memory.search.nearest(tenant, vectors[:1], k, effort=Effort.EXACT, leave_out=gone.__contains__)
        return [hit.image_id for hit in hits], hits.truncated

    assert nearest(4, 8) == (ordered[8:12], False)
    assert nearest(4, 14) == (ordered[14:16], True), "16 are looked at"
    assert nearest(6, 18) == (ordered[18:], False), "there are no others"


def test_only_the_remembered_are_found(memory: Memory, tenant: str) -> None:
    (held, *_), vectors = remembered(memory, tenant, 3)
    put(memory, [image(tenant, "waiting"), held.model_copy(update={"state": State.MUTED})])
    assert {hit.image_id for hit in memory.search.nearest(tenant, vectors[:1], 9)[0]} == {"i001", "i002"}


# Counting and removing


def test_counting_labels_and_states(memory: Memory, tenant: str) -> None:
    memory.writes.put(
        [
            image(tenant, "a", labels=["b/x", "a"]),
            image(tenant, "b", labels=["a"], source="s"),
            image(tenant, "c", labels=["b/x"], state=State.REJECTED, reason="bad"),
        ]
    )
    assert memory.images.count_by_label(tenant) == [("a", 2), ("b/x", 2)]
    assert memory.images.count_by_label(tenant, clauses(source="s")) == [("a", 1)]
    assert memory.images.count_by_state(tenant) == {State.WAITING: 2, State.REJECTED: 1}
    assert memory.images.count_by_state(tenant, clauses(labels="b")) == {State.WAITING: 1, State.REJECTED: 1}
    assert memory.images.count(tenant) == 3
    assert memory.images.count(tenant, clauses(labels="b")) == 2


def test_all_labels_are_counted(memory: Memory, tenant: str) -> None:
    put(memory, [image(tenant, f"i{n}", labels=[f"l{n}-{m}" for m in range(20)]) for n in range(30)])
    assert sorted(memory.images.count_by_label(tenant)) == sorted(
        (f"l{n}-{m}", 1) for n in range(30) for m in range(20)
    )


def test_a_mark_settles_what_is_removed(memory: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}", subject="Ann" if n % 2 else "Bob") for n in range(9)]
    put(memory, images)
    memory.embeddings.store(images[:4], units(4))
    memory.marks.mark(tenant, clauses(subject="Ann"), "first")
    put(memory, [image(tenant, "later", subject="Ann"), image(tenant, "i1", subject="Ann")])
    first, rest = memory.images.pages(tenant, [marked_by("first")], 2)
    assert sorted(each.image_id for each in first + rest) == ["i1", "i3", "i5", "i7"]
    assert memory.images.count(tenant, [marked_by("first")]) == 4
    assert memory.images.count(tenant, [*clauses(state="remembered"), marked_by("first")]) == 2
    delete_marked(memory, tenant, "first")
    assert memory.images.count(tenant, [marked_by("first")]) == 0
    assert sorted(everything(memory, tenant)) == ["i0", "i2", "i4", "i6", "i8", "later"]
    memory.marks.mark(tenant, [], "all")
    delete_marked(memory, tenant, "all")
    assert memory.images.count(tenant) == 0


def test_tenants_are_apart_in_every_method(memory: Memory, tenant: str) -> None:
    """The same image ids, and even the same picture keys, with two tenants: nothing done for one touches the other."""
    ours, vectors = remembered(memory, tenant, 3, subject="Ann")
    waiting = image(tenant, "w", subject="Ann")
    put(memory, [waiting])
    before = memory.images.get(tenant, ["i000", "i001", "i002", "w"])
    other = f"{tenant}x"
    theirs = [each.model_copy(update={"tenant": other, "labels": ["theirs"]}) for each in [*ours, waiting]]

    assert memory.images.get(other, ["i000", "w"]) == {}
    assert memory.images.page(other, [], 9) == ([], None)
    assert memory.search.nearest(other, vectors, 9) == [[]] * 3
    assert memory.images.count(other) == 0
    assert memory.images.count_by_state(other) == {}
    assert memory.images.count_by_label(other) == []
    assert not any(memory.writes.amend(each, each) for each in theirs)
    assert memory.embeddings.store(theirs, units(4)) == 0
    assert not reject(memory, theirs[3], "theirs")
    assert memory.leases.begin(theirs) == []
    memory.leases.release(theirs)
    memory.writes.delete(theirs)
    memory.marks.mark(other, [], "r")
    memory.marks.mark(tenant, clauses(image_id="w"), "r")
    delete_marked(memory, other, "r")
    memory.marks.delete(other, ["w"], "r")
    assert list(memory.images.pages(other, [marked_by("r")], 9)) == [[]]
    assert memory.images.count(other, [marked_by("r")]) == 0
    memory.marks.clear(other, ["r"])
    assert memory.images.count(tenant, [marked_by("r")]) == 1
    memory.marks.clear(tenant, ["r"])
    assert memory.images.get(tenant, ["i000", "i001", "i002", "w"]) == before

    put(memory, theirs)
    assert memory.images.get(tenant, ["i000", "i001", "i002", "w"]) == before
    _, cursor = memory.images.page(tenant, [], 1)
    assert {each.tenant for each in memory.images.page(other, [], 9, cursor)[0]} <= {other}


def test_images_of_two_tenants_are_not_written_in_one_batch(memory: Memory, tenant: str) -> None:
    with pytest.raises(ValueError, match="one tenant"):
        memory.embeddings.store([image(tenant, "a"), image(f"{tenant}x", "a")], units(2))


def test_a_range_that_engines_cannot_tell_apart_is_refused(memory: Memory, tenant: str) -> None:
    for bound in (2**53, -(2**53)):
        with pytest.raises(InvalidFilter):
            memory.images.count(tenant, clauses(metadata_count={"lt": bound}))
    put(memory, [image(tenant, "a", metadata={"count": 2**53 + 1}), image(tenant, "b", metadata={"count": 2**53 - 2})])
    assert everything(memory, tenant, clauses(metadata_count={"gt": 2**53 - 1})) == ["a"]
    assert everything(memory, tenant, clauses(metadata_count=2**53 + 1)) == ["a"]
    assert everything(memory, tenant, clauses(metadata_count=2**53)) == []


@pytest.mark.parametrize("engine", THREADED, indirect=True, scope="module")
def test_many_writers_and_readers(memory: Memory, tenant: str) -> None:
    """Eight threads, each with images of its own that it checks against a model; one count over all in the end."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            _against_a_model(memory, tenant, number)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert memory.images.count(tenant) == 8 * 5
    assert memory.images.count_by_state(tenant) == {State.REMEMBERED: 8 * 4, State.WAITING: 8}


def _against_a_model(memory: Memory, tenant: str, number: int) -> None:
    mine = clauses(source=f"s{number}")
    images = [image(tenant, f"{number}-{n}", source=f"s{number}") for n in range(10)]
    vectors = units(10, seed=number)
    for each in images:
        put(memory, [each])
        assert memory.images.get(tenant, [each.image_id]) == {each.image_id: each}
    memory.marks.mark(tenant, clauses(image_id=[each.image_id for each in images[5:]]), f"r{number}")
    delete_marked(memory, tenant, f"r{number}")
    assert memory.embeddings.store(images, vectors) == 5
    for n, each in enumerate(images[:5]):
        (found,) = memory.search.nearest(tenant, vectors[n : n + 1], 1, mine)
        assert found[0].image_id == each.image_id
    put(memory, [image(tenant, f"{number}-0", source=f"s{number}")])
    assert memory.images.count_by_state(tenant, mine) == {State.REMEMBERED: 4, State.WAITING: 1}


# Embedded images


def test_the_embedded_images_come_page_by_page_with_their_vectors(memory: Memory) -> None:
    images, vectors = remembered(memory, "a", 10)
    remembered(memory, "b", 3)
    put(memory, [image("a", "waits")])
    found: dict[str, Vectors] = {}
    for page, rows in memory.images.pages_with_vectors("a", [], 4):
        assert len(page) <= 4
        found |= dict(zip((each.image_id for each in page), rows, strict=True))
    assert found.keys() == {each.image_id for each in images}
    for each, vector in zip(images, vectors, strict=True):
        np.testing.assert_allclose(found[each.image_id], vector, atol=1e-6)
    [([one], _)] = memory.images.pages_with_vectors("a", clauses(image_id="i003"), 10)
    assert one.image_id == "i003"
    [(nobody, none)] = memory.images.pages_with_vectors("nobody", [], 10)
    assert (nobody, none.shape) == ([], (0, DIMENSION))


# Ready-made vectors


def ready_made(tenant: str, count: int, **fields: Any) -> list[StoredImage]:
    return [image(tenant, f"v{n:03}", **{**REMEMBERED, **fields}) for n in range(count)]


def test_ready_made_vectors_are_remembered_as_they_are(memory: Memory, tenant: str) -> None:
    images, vectors = ready_made(tenant, 9, metadata={"count": 3}), units(9)
    assert memory.writes.put(images, vectors=vectors) == PutResult()
    [(held, kept)] = memory.images.pages_with_vectors(tenant, clauses(metadata_count=3), 20)
    place = {image.image_id: row for row, image in enumerate(images)}
    assert {each.image_id: each for each in held} == {each.image_id: each for each in images}
    assert np.abs(kept - vectors[[place[each.image_id] for each in held]]).max() < 1e-6


def test_ready_made_vectors_replace_what_was_there_and_nothing_that_came_since(memory: Memory, tenant: str) -> None:
    images, _ = remembered(memory, tenant, 4)
    held = memory.images.get(tenant, [each.image_id for each in images])
    put(memory, [image(tenant, "i000", labels=["newer"])])  # replaced since it was read
    memory.writes.delete(images[1:2])
    new = [image(tenant, f"i{n:03}", labels=["vector"], **REMEMBERED) for n in range(5)]
    placed = memory.writes.put(new, held, vectors=units(5, seed=9))
    assert sorted(placed.unreferenced) == sorted(each.picture for each in (*images, *new[:2]))
    assert (placed.overtaken, placed.being_removed) == (("i000",), ("i001",))
    after = memory.images.get(tenant, [each.image_id for each in new])
    assert {name: each.labels for name, each in after.items()} == {
        "i000": ["newer"],
        "i002": ["vector"],
        "i003": ["vector"],
        "i004": ["vector"],
    }
    [[hit]] = memory.search.nearest(tenant, units(5, seed=9)[2:3], 1)
    assert (hit.image_id, hit.labels) == ("i002", ("vector",))


def test_ready_made_vectors_that_came_meanwhile_stay(memory: Memory, tenant: str) -> None:
    first, second = ready_made(tenant, 2, labels=["first"]), ready_made(tenant, 3, labels=["second"])
    memory.writes.put(first, vectors=units(2))
    placed = memory.writes.put(second, vectors=units(3, seed=1))
    assert (placed.overtaken, placed.being_removed) == (("v000", "v001"), ())
    assert memory.images.count_by_label(tenant) == [("first", 2), ("second", 1)]
    [[hit]] = memory.search.nearest(tenant, units(2)[:1], 1)
    assert hit.similarity == pytest.approx(1, abs=1e-5)


def test_ready_made_vectors_must_be_units(memory: Memory, tenant: str) -> None:
    for vectors in (units(2) * np.float32(2), units(3), units(2)[:, :-1]):
        with pytest.raises(InvalidVector):
            memory.writes.put(ready_made(tenant, 2), vectors=vectors)
    assert memory.writes.put([], vectors=units(0)) == PutResult()
