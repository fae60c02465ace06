"""What every engine does with several writes at once, and with points in an order."""

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.support.memory_images import ENCODER, units
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_filters import within
from visual_memory.services.vector_engines.engine_contract import (
    Delete,
    Engine,
    Insert,
    NamedVectors,
    Order,
    Payload,
    Point,
    PointFilter,
    Replace,
    SetPayload,
    UpdateVectors,
)

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

VECTOR = vector_name(ENCODER)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _opened(memory: Memory) -> None:
    """The collection is there, with its indexes."""


def points(tenant: str, number: int, **payload: object) -> list[Point]:
    return [
        Point(str(uuid.uuid4()), {"tenant": tenant, "picture": f"{tenant}/{n}", "number": n, **payload})
        for n in range(number)
    ]


def ids(given: list[Point]) -> list[str]:
    return [point.id for point in given]


def numbers(payloads: list[Payload], field: str = "number") -> list[object]:
    return [payload.get(field) for payload in sorted(payloads, key=lambda each: each["number"])]


def of_picture(tenant: str, number: int, vector: str | None = None) -> PointFilter:
    return within(tenant, [Clause("picture", FieldType.KEYWORD, (f"{tenant}/{number}",))], vector)


def test_writes_are_made_in_their_order_and_read_afterwards(engine: Engine, tenant: str) -> None:
    given = points(tenant, 4)
    read = engine.write(
        [
            Insert(given[:3]),
            SetPayload({"subject": "ann"}, of_picture(tenant, 0)),
            Replace([Point(given[1].id, {**given[1].payload, "subject": "bob"})], of_picture(tenant, 1)),
            Replace([Point(given[2].id, {**given[2].payload, "subject": "eve"})], of_picture(tenant, 1)),
            SetPayload({"source": "later"}, within(tenant, [Clause("subject", FieldType.KEYWORD, ("ann",))])),
            Delete(of_picture(tenant, 2)),
            Insert([given[0], given[3]]),
        ],
        ids(given),
    )
    assert numbers(read) == [0, 1, 3]
    assert numbers(read, "subject") == ["ann", "bob", None]
    assert numbers(read, "source") == ["later", None, None]


def test_a_vector_and_what_hangs_on_it_are_written_at_once(engine: Engine, tenant: str) -> None:
    given, vectors = points(tenant, 3), units(3)
    engine.write([Insert(given)])
    read = engine.write(
        [
            UpdateVectors(ids(given), NamedVectors(VECTOR, vectors), of_picture(tenant, 1)),
            *(SetPayload({"state": "remembered"}, of_picture(tenant, n, VECTOR)) for n in range(3)),
        ],
        ids(given),
    )
    assert numbers(read, "state") == [None, "remembered", None]
    exported, _ = engine.export(within(tenant, vector=VECTOR), 10, None)
    assert [point.id for point in exported] == [given[1].id]
    assert np.allclose(exported[0].vectors[VECTOR], vectors[1])


def test_points_that_are_gone_keep_the_writes_beside_them_from_nothing(engine: Engine, tenant: str) -> None:
    given = points(tenant, 3)
    engine.write([Insert(given[:2])])
    read = engine.write(
        [
            SetPayload({"attempts": 1}, within(tenant)),
            UpdateVectors(ids(given), NamedVectors(VECTOR, units(3)), within(tenant)),
            SetPayload({"state": "remembered"}, within(tenant, vector=VECTOR)),
            UpdateVectors([given[2].id], NamedVectors(VECTOR, units(1)), within(tenant)),
        ],
        ids(given),
    )
    assert numbers(read, "attempts") == [1, 1]
    assert numbers(read, "state") == ["remembered", "remembered"]


def test_no_writes_are_none_and_may_be_read_after(engine: Engine, tenant: str) -> None:
    given = points(tenant, 2)
    engine.write([Insert(given)])
    assert engine.write([]) == []
    assert numbers(engine.write([], ids(given))) == [0, 1]


def test_a_filter_by_ids_covers_those_alone(engine: Engine, tenant: str) -> None:
    given = points(tenant, 3)
    engine.write([Insert(given)])
    assert engine.count(PointFilter(tenant, ids=(given[0].id, given[2].id, str(uuid.uuid4())))) == 2
    assert engine.count(PointFilter(tenant, ids=())) == 0
    assert engine.count(PointFilter(f"{tenant}x", ids=(given[0].id,))) == 0


def moments_of(count: int, seed: int) -> list[datetime | None]:
    """Moments as they are in practice: most of them shared by many, far ones, neighbours, and none."""
    chance = np.random.default_rng(seed)
    shared = [
        NOON,
        NOON + timedelta(microseconds=1),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ]
    drawn = [*shared, None, *(NOON + timedelta(seconds=float(chance.integers(-9, 9))) for _ in range(4))]
    return [drawn[each] for each in chance.integers(0, len(drawn), count)]


def sorted_numbers(given: list[Point], order: Order) -> list[object]:
    """The numbers of points in an order, by the plain definition of it."""
    having = [each for each in given if each.payload.get(order.field)]
    having.sort(key=lambda each: each.id)
    having.sort(key=lambda each: datetime.fromisoformat(each.payload[order.field]), reverse=order.descending)
    without = sorted((each for each in given if not each.payload.get(order.field)), key=lambda each: each.id)
    return [each.payload["number"] for each in (*having, *without)]


def dated(tenant: str, number: int, seed: int, **payload: object) -> list[Point]:
    given = points(tenant, number, **payload)
    for point, moment in zip(given, moments_of(number, seed), strict=True):
        if moment is not None:
            point.payload["captured_at"] = moment.isoformat()
    return given


@pytest.mark.parametrize("descending", [False, True])
def test_pages_in_an_order_are_the_sorted_list(engine: Engine, tenant: str, *, descending: bool) -> None:
    given, order, chance = dated(tenant, 60, 1), Order("captured_at", descending), np.random.default_rng(2)
    for point in given[::3]:
        point.payload["source"] = "third"
    engine.write([Insert([*given, *dated(f"{tenant}x", 20, 3)])])
    third = within(tenant, [Clause("source", FieldType.KEYWORD, ("third",))])
    for where, among in ((within(tenant), given), (third, given[::3])):
        for limits in ([1] * 99, [7] * 99, [60], [61], chance.integers(1, 12, 99).tolist()):
            seen: list[object] = []
            position = None
            for limit in limits:
                page, position = engine.scroll_ordered(where, order, limit, position)
                assert len(page) == limit or position is None
                seen += [each["number"] for each in page]
                if position is None:
                    break
            assert seen == sorted_numbers(among, order)


@pytest.mark.parametrize("descending", [False, True])
def test_what_stays_comes_once_whatever_is_written_between_two_pages(
    engine: Engine, tenant: str, *, descending: bool
) -> None:
    chance = np.random.default_rng(4)
    staying = dated(tenant, 40, 5, state="stays")
    going = dated(tenant, 40, 6, state="goes")
    engine.write([Insert([*staying, *going])])
    order, position, seen = Order("captured_at", descending), None, list[object]()
    while True:
        page, position = engine.scroll_ordered(within(tenant), order, int(chance.integers(1, 8)), position)
        seen += [each["number"] for each in page if each["state"] == "stays"]
        if position is None:
            break
        gone, going = going[:2], going[2:]
        fresh = dated(tenant, 2, int(chance.integers(99)), state="comes")
        engine.write([Delete(PointFilter(tenant, ids=tuple(ids(gone)))), Insert(fresh)])
    assert seen == sorted_numbers(staying, order)


def test_an_estimate_is_about_the_count(engine: Engine, tenant: str) -> None:
    engine.write([Insert(points(tenant, 30, state="waiting"))])
    assert engine.estimate(PointFilter(f"{tenant}x")) == 0
    assert engine.estimate(within(tenant)) == pytest.approx(30, abs=10)


def test_tenants_with_points_that_wait_are_counted(engine: Engine, tenant: str) -> None:
    others = f"{tenant}x"
    engine.write([Insert(points(tenant, 3, state="waiting")), Insert(points(others, 2, state="remembered"))])
    waiting = PointFilter(clauses=(Clause("state", FieldType.KEYWORD, ("waiting",)),))
    counted = engine.facet("tenant", waiting)
    assert (counted.get(tenant), counted.get(others)) == (3, None)
