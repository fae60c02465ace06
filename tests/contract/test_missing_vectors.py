"""Images get vectors of further encoders, beside those that they have: over every engine."""

import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.conftest import ENGINES
from tests.support.memory_images import (
    DIMENSION,
    ENCODER,
    METADATA,
    Owner,
    clauses,
    delete_marked,
    image,
    mute,
    put,
    reject,
    units,
)
from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.errors import InvalidVector
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.infrastructure.storage.picture_store import new_keys_of_vectors
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.page_cursor import random_cursor
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Index, SetPayload, Vectors
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
LONGER = 11


@pytest.fixture
def other(engine: Engine, memory: Memory) -> Iterator[Memory]:
    """The same images under an encoder that is added, and dropped in the end."""
    name = f"other/{uuid.uuid4().hex}"
    added = memory.with_encoder(name, LONGER)
    engine.add_vector(added.points.vector, LONGER)
    added.open()
    yield added
    memory.missing_vectors.clear_given_up(name)
    engine.drop_vector(added.points.vector)


def longer(rows: int, seed: int = 1) -> Vectors:
    return units(rows, seed, LONGER)


def remembered(memory: Memory, tenant: str, number: int) -> list[StoredImage]:
    images = [image(tenant, f"i{n}") for n in range(number)]
    put(memory, images)
    memory.embeddings.store(images, units(number))
    return held(memory, images)


def held(memory: Memory, images: list[StoredImage]) -> list[StoredImage]:
    there = memory.images.get(images[0].tenant, [each.image_id for each in images])
    return [there[each.image_id] for each in images if each.image_id in there]


def came_as_vectors(memory: Memory, tenant: str, number: int) -> list[StoredImage]:
    images = [
        image(tenant, f"v{n}", state=State.REMEMBERED, picture=key, encoder=ENCODER)
        for n, key in enumerate(new_keys_of_vectors(number))
    ]
    memory.writes.put(images, vectors=units(number, seed=30))
    return images


def left(memory: Memory, tenant: str, limit: int = 3) -> list[str]:
    found, cursor = memory.missing_vectors.page(tenant, limit)
    while cursor:
        more, cursor = memory.missing_vectors.page(tenant, limit, cursor)
        found += more
    return sorted(each.image_id for each in found)


def nearest(memory: Memory, tenant: str, vectors: Vectors) -> list[str]:
    return [hits[0].image_id for hits in memory.search.nearest(tenant, vectors, 1, effort=Effort.EXACT) if hits]


def test_an_encoder_that_is_added_is_filled_until_nothing_is_left(memory: Memory, other: Memory, tenant: str) -> None:
    images = remembered(memory, tenant, 7)
    mute(memory, tenant, clauses(image_id="i6"))
    put(memory, [image(tenant, "waits"), image(tenant, "rejected")])
    reject(memory, memory.images.get(tenant, ["rejected"])["rejected"], "cannot be read")
    came_as_vectors(memory, tenant, 2)
    assert memory.missing_vectors.counts(tenant) == FillCounts(filled=9)
    assert other.missing_vectors.counts(tenant) == FillCounts(left=7, vectors_only=2)
    assert left(other, tenant) == [f"i{n}" for n in range(7)]
    before = memory.images.get(tenant, [each.image_id for each in images])
    other.missing_vectors.store(images[:4], longer(4))
    assert memory.images.get(tenant, [each.image_id for each in images]) == before, "nothing else is written"
    assert other.missing_vectors.counts(tenant) == FillCounts(filled=4, left=3, vectors_only=2)
    assert left(other, tenant) == ["i4", "i5", "i6"]
    assert other.missing_vectors.any_left()
    other.missing_vectors.store(images, longer(7))
    assert left(other, tenant) == []
    assert other.missing_vectors.counts(tenant) == FillCounts(filled=7, vectors_only=2)
    assert nearest(other, tenant, longer(7)) == [*(f"i{n}" for n in range(6)), nearest(other, tenant, longer(7)[6:])[0]]
    assert nearest(memory, tenant, units(6)) == [f"i{n}" for n in range(6)]
    memory.mutes.unmute(tenant, clauses(image_id="i6"))
    assert nearest(other, tenant, longer(7)) == [f"i{n}" for n in range(7)]


def test_the_counts_of_every_tenant_are_the_sum(memory: Memory, other: Memory, tenant: str) -> None:
    before = other.missing_vectors.counts()
    images = remembered(memory, tenant, 3)
    remembered(memory, f"{tenant}x", 2)
    came_as_vectors(memory, f"{tenant}x", 1)
    other.missing_vectors.store(images[:1], longer(1))
    other.missing_vectors.give_up(images[1:2], "it is too thin")
    after = other.missing_vectors.counts()
    more = {name: count - getattr(before, name) for name, count in after.model_dump().items()}
    assert more == {"filled": 1, "left": 3, "failed": 1, "vectors_only": 1}


def test_a_fill_may_begin_anywhere(memory: Memory, other: Memory, tenant: str) -> None:
    remembered(memory, tenant, 20)
    for _ in range(5):
        found, _ = other.missing_vectors.page(tenant, 20, random_cursor())
        assert {each.image_id for each in found} <= {f"i{n}" for n in range(20)}
    assert len(other.missing_vectors.page(tenant, 20)[0]) == 20


def test_a_late_fill_brings_nothing_back_and_gives_nothing_to_another_picture(
    memory: Memory, other: Memory, tenant: str
) -> None:
    removed, replaced, stays = remembered(memory, tenant, 3)
    memory.marks.mark(tenant, clauses(image_id=removed.image_id), "r")
    delete_marked(memory, tenant, "r")
    new = image(tenant, replaced.image_id)
    put(memory, [new])
    other.missing_vectors.store([removed, replaced, stays], longer(3))
    assert memory.images.get(tenant, [removed.image_id]) == {}
    assert memory.images.get(tenant, [replaced.image_id]) == {replaced.image_id: new}
    memory.embeddings.store([new], units(1, seed=5))
    assert other.missing_vectors.counts(tenant) == FillCounts(filled=1, left=1)
    assert left(other, tenant) == [replaced.image_id]
    other.missing_vectors.give_up([removed, replaced], "it is too thin")
    assert left(other, tenant) == [replaced.image_id]


def test_a_replaced_image_loses_the_vectors_of_all_encoders_at_once(memory: Memory, other: Memory, tenant: str) -> None:
    images = remembered(memory, tenant, 2)
    other.missing_vectors.store(images, longer(2))
    other.missing_vectors.give_up(images[1:], "it is too thin")
    put(memory, [image(tenant, each.image_id) for each in images])
    assert memory.missing_vectors.counts(tenant) == other.missing_vectors.counts(tenant) == FillCounts()
    again = held(memory, images)
    memory.embeddings.store(again, units(2, seed=9))
    assert other.missing_vectors.counts(tenant) == FillCounts(left=2)
    assert nearest(other, tenant, longer(2)) == []


def test_a_removal_takes_the_vectors_of_all_encoders(memory: Memory, other: Memory, tenant: str) -> None:
    images = remembered(memory, tenant, 3)
    other.missing_vectors.store(images, longer(3))
    memory.marks.mark(tenant, clauses(image_id="i1"), "r")
    delete_marked(memory, tenant, "r")
    assert nearest(other, tenant, longer(3)[1:2]) != ["i1"]
    assert memory.missing_vectors.counts(tenant) == other.missing_vectors.counts(tenant) == FillCounts(filled=2)


def test_what_cannot_be_encoded_is_given_up_and_listed_with_the_reason(
    memory: Memory, other: Memory, tenant: str
) -> None:
    images = remembered(memory, tenant, 4)
    [vector] = came_as_vectors(memory, tenant, 1)
    other.missing_vectors.store(images[:1], longer(1))
    other.missing_vectors.give_up(images[1:3], "it is too thin")
    memory.missing_vectors.give_up(held(memory, images[2:3]), "another reason")
    assert left(other, tenant) == ["i3"]
    assert other.missing_vectors.counts(tenant) == FillCounts(filled=1, left=1, failed=2, vectors_only=1)
    first, cursor = other.missing_vectors.page_with_reasons(tenant, 2)
    rest, end = other.missing_vectors.page_with_reasons(tenant, 9, cursor)
    assert end is None
    assert {each.image_id: reason for each, reason in first + rest} == {
        "i1": "it is too thin",
        "i2": "it is too thin",
        "i3": "it is yet to be filled",
        vector.image_id: f"it came as a vector of {ENCODER}: send one of {other.points.encoder}",
    }
    memory.missing_vectors.clear_given_up(other.points.encoder)
    assert left(other, tenant) == ["i1", "i2", "i3"]
    assert [len(each.not_encoded) for each in held(memory, images)] == [0, 0, 1, 0], "that of the other stays"
    assert memory.missing_vectors.counts(tenant) == FillCounts(filled=5)


def test_vectors_of_further_encoders_come_with_the_first(memory: Memory, other: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}") for n in range(4)]
    put(memory, images)
    gone = image(tenant, "gone")
    rows = longer(5)
    rows[2] = np.nan
    given = {other.points.encoder: rows, "was dropped": longer(5)}
    assert memory.embeddings.store([*images, gone], units(5), further=given) == 4
    assert other.missing_vectors.counts(tenant) == FillCounts(filled=3, left=1)
    assert left(other, tenant) == ["i2"]
    assert nearest(other, tenant, longer(4)[[0, 1, 3]]) == ["i0", "i1", "i3"]
    assert nearest(memory, tenant, units(4)) == ["i0", "i1", "i2", "i3"]
    assert memory.images.get(tenant, ["gone"]) == {}


def test_a_lease_that_ended_takes_the_further_vectors_too(memory: Memory, other: Memory, tenant: str) -> None:
    put(memory, [image(tenant, "a")])
    [begun] = memory.leases.begin(list(memory.images.get(tenant, ["a"]).values()))
    memory.leases.begin([begun])  # by another
    assert memory.embeddings.store([begun], units(1), further={other.points.encoder: longer(1)}) == 0
    assert nearest(other, tenant, longer(1)) == []
    assert memory.images.count_with_vectors(tenant) == other.images.count_with_vectors(tenant) == 0


@pytest.mark.parametrize("wrong", [longer(1) * 2, longer(2)])
def test_vectors_that_cannot_be_remembered_are_refused(
    memory: Memory, other: Memory, tenant: str, wrong: Vectors
) -> None:
    put(memory, [image(tenant, "a")])
    waiting = list(memory.images.get(tenant, ["a"]).values())
    with pytest.raises(InvalidVector):
        memory.embeddings.store(waiting, units(1), further={other.points.encoder: wrong})
    with pytest.raises(InvalidVector):
        other.missing_vectors.store(waiting, wrong)
    assert memory.images.count_by_state(tenant) == {State.WAITING: 1}


def test_an_image_without_this_encoder_s_vector_is_muted_and_unmuted_all_the_same(
    memory: Memory, other: Memory, tenant: str
) -> None:
    images = remembered(memory, tenant, 2)
    other.missing_vectors.store(images[:1], longer(1))
    assert mute(other, tenant, []) == 2
    assert memory.images.count_by_state(tenant) == {State.MUTED: 2}
    assert other.mutes.unmute(tenant, []) == 2
    assert nearest(memory, tenant, units(2)) == ["i0", "i1"]
    assert nearest(other, tenant, longer(2)) == ["i0", "i0"], "it votes only where it has a vector"


def test_what_came_as_a_vector_before_there_was_a_mark_is_counted_right(folder: Path) -> None:
    """As in a folder that an earlier version made: no mark, and no index of it."""
    engine = EdgeEngine(folder / "data")
    engine.create(vector_name(ENCODER), DIMENSION, {"tenant": Index(FieldType.KEYWORD, is_tenant=True)})
    memory = Memory(engine, ENCODER, DIMENSION, METADATA)
    memory.open()
    pictures, vectors = remembered(memory, "t", 2), came_as_vectors(memory, "u", 3)
    engine.write([SetPayload({"vector_only": None}, EVERY_POINT)])
    other = memory.with_encoder("other", LONGER)
    engine.add_vector("other", LONGER)
    assert engine.count(other.missing_vectors._left("u")) == 3, "they would be taken for pictures"
    assert other.missing_vectors.counts() == FillCounts(left=2, vectors_only=3)
    assert other.missing_vectors.page("u", 9) == ([], None)
    assert left(other, "t") == [each.image_id for each in pictures]
    assert memory.images.get("u", ["v1"])["v1"] == vectors[1]
    shape = engine.inspect()
    assert shape is not None
    assert shape.indexes["vector_only"] == "bool"
    engine.close()


def of_picture(image: StoredImage, dimension: int) -> Vectors:
    """The vector that an encoder makes of an image's picture."""
    return units(1, zlib.crc32(image.picture.encode()), dimension)


def encoded(images: Sequence[StoredImage], dimension: int) -> Vectors:
    return np.concatenate([of_picture(each, dimension) for each in images])


def fill_while_all_changes(memory: Memory, other: Memory, tenant: str, disturb: Callable[[int], object]) -> None:
    """Fill with images replaced, removed, added and muted meanwhile; what is there in the end is checked."""
    images = [image(tenant, f"i{n:03}") for n in range(120)]
    put(memory, images)
    memory.embeddings.store(images, encoded(images, DIMENSION))
    changed, errors = threading.Event(), list[BaseException]()

    def fill() -> None:
        try:
            ended = False
            while not ended:
                ended, cursor = changed.is_set(), None
                while True:
                    found, cursor = other.missing_vectors.page(tenant, 7, cursor)
                    time.sleep(0.002)  # it takes a while to encode them
                    if found:
                        other.missing_vectors.store(found, encoded(found, LONGER))
                    if cursor is None:
                        break
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    rng = np.random.default_rng(1)
    try:
        for step in range(40):
            chosen = [f"i{n:03}" for n in rng.choice(150, 4, replace=False)]
            new = [image(tenant, each) for each in chosen[:2]]
            put(memory, new)
            rows = encoded(new, LONGER)
            rows[1] = np.nan
            memory.embeddings.store(new, encoded(new, DIMENSION), further={other.points.encoder: rows})
            memory.marks.mark(tenant, clauses(image_id=chosen[2]), f"r{step}")
            delete_marked(memory, tenant, f"r{step}")
            mute(memory, tenant, clauses(image_id=chosen[3]))
            disturb(step)
    finally:
        changed.set()
        thread.join()
    assert errors == []
    points, _ = memory.points.engine.export(EVERY_POINT, 10_000, None)
    mine = [(to_image(point.payload), point.vectors) for point in points if point.payload["tenant"] == tenant]
    assert len(mine) > 60
    for held, vectors in mine:
        assert np.allclose(vectors[memory.points.vector], of_picture(held, DIMENSION)[0], atol=1e-5), held
        assert np.allclose(vectors[other.points.vector], of_picture(held, LONGER)[0], atol=1e-5), held
    assert other.missing_vectors.counts(tenant) == memory.missing_vectors.counts(tenant) == FillCounts(filled=len(mine))


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "local"], indirect=True, scope="module")
def test_nothing_is_lost_or_mixed_while_images_come_go_and_change(memory: Memory, other: Memory, tenant: str) -> None:
    fill_while_all_changes(memory, other, tenant, lambda _: None)


def test_nothing_is_lost_or_mixed_where_the_owner_is_killed_and_compacts(folder: Path) -> None:
    with Owner(folder) as owner:
        engine: Any = EngineOwnerClient(owner.ready().socket, timeout=60)
        memory = Memory(engine, ENCODER, DIMENSION, METADATA)
        memory.open()
        engine.add_vector("other", LONGER)

        def disturb(step: int) -> None:
            if step % 8 == 3:
                owner.kill()
                owner.start()
            if step % 8 == 6:
                engine.compact()

        fill_while_all_changes(memory, memory.with_encoder("other", LONGER), "t", disturb)
        assert not memory.with_encoder("other", LONGER).missing_vectors.any_left()
        memory.close()
