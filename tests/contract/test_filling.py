"""Images get vectors of further encoders, beside those that they have: over every engine."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.decision import Effort
from schemas.encoder import FillCounts
from schemas.errors import InvalidVector
from schemas.filter import FieldType
from schemas.image import State, StoredImage
from services.memory.collection import vector_name
from services.memory.embedded.edge import EdgeEngine
from services.memory.engine import EVERY_POINT, Engine, Index, SetPayload, Vectors
from services.memory.memory import Memory, random_cursor
from services.memory.pictures import new_keys_of_vectors
from tests.contract.support import DIMENSION, ENCODER, METADATA, clauses, image, put, reject, units

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
LONGER = 11


@pytest.fixture
def other(engine: Engine, memory: Memory) -> Iterator[Memory]:
    """The same images under an encoder that is added, and dropped in the end."""
    name = f"other/{uuid.uuid4().hex}"
    added = memory.under(name, LONGER)
    engine.add_vector(added._vector, LONGER)
    added.open()
    yield added
    memory.forget_encoder(name)
    engine.drop_vector(added._vector)


def longer(rows: int, seed: int = 1) -> Vectors:
    return units(rows, seed, LONGER)


def remembered(memory: Memory, tenant: str, number: int) -> list[StoredImage]:
    images = [image(tenant, f"i{n}") for n in range(number)]
    put(memory, images)
    memory.remember(images, units(number))
    return held(memory, images)


def held(memory: Memory, images: list[StoredImage]) -> list[StoredImage]:
    there = memory.get(images[0].tenant, [each.image_id for each in images])
    return [there[each.image_id] for each in images if each.image_id in there]


def came_as_vectors(memory: Memory, tenant: str, number: int) -> list[StoredImage]:
    images = [
        image(tenant, f"v{n}", state=State.REMEMBERED, picture=key, encoder=ENCODER)
        for n, key in enumerate(new_keys_of_vectors(number))
    ]
    memory.put(images, vectors=units(number, seed=30))
    return images


def left(memory: Memory, tenant: str, limit: int = 3) -> list[str]:
    found, cursor = memory.to_fill(tenant, limit)
    while cursor:
        more, cursor = memory.to_fill(tenant, limit, cursor)
        found += more
    return sorted(each.image_id for each in found)


def nearest(memory: Memory, tenant: str, vectors: Vectors) -> list[str]:
    return [hits[0].image_id for hits in memory.nearest(tenant, vectors, 1, effort=Effort.EXACT) if hits]


def test_an_encoder_that_is_added_is_filled_until_nothing_is_left(memory: Memory, other: Memory, tenant: str) -> None:
    images = remembered(memory, tenant, 7)
    memory.mute(tenant, clauses(image_id="i6"))
    put(memory, [image(tenant, "waits"), image(tenant, "rejected")])
    reject(memory, memory.get(tenant, ["rejected"])["rejected"], "cannot be read")
    came_as_vectors(memory, tenant, 2)
    assert memory.fill_counts(tenant) == FillCounts(filled=9)
    assert other.fill_counts(tenant) == FillCounts(left=7, vectors_only=2)
    assert left(other, tenant) == [f"i{n}" for n in range(7)]
    before = memory.get(tenant, [each.image_id for each in images])
    other.fill(images[:4], longer(4))
    assert memory.get(tenant, [each.image_id for each in images]) == before, "nothing else is written"
    assert other.fill_counts(tenant) == FillCounts(filled=4, left=3, vectors_only=2)
    assert left(other, tenant) == ["i4", "i5", "i6"]
    other.fill(images, longer(7))
    assert left(other, tenant) == []
    assert other.fill_counts(tenant) == FillCounts(filled=7, vectors_only=2)
    assert nearest(other, tenant, longer(7)) == [*(f"i{n}" for n in range(6)), nearest(other, tenant, longer(7)[6:])[0]]
    assert nearest(memory, tenant, units(6)) == [f"i{n}" for n in range(6)]
    memory.unmute(tenant, clauses(image_id="i6"))
    assert nearest(other, tenant, longer(7)) == [f"i{n}" for n in range(7)]


def test_the_counts_of_every_tenant_are_the_sum(memory: Memory, other: Memory, tenant: str) -> None:
    before = other.fill_counts()
    images = remembered(memory, tenant, 3)
    remembered(memory, f"{tenant}x", 2)
    came_as_vectors(memory, f"{tenant}x", 1)
    other.fill(images[:1], longer(1))
    other.give_up(images[1:2], "it is too thin")
    after = other.fill_counts()
    more = {name: count - getattr(before, name) for name, count in after.model_dump().items()}
    assert more == {"filled": 1, "left": 3, "failed": 1, "vectors_only": 1}


def test_a_fill_may_begin_anywhere(memory: Memory, other: Memory, tenant: str) -> None:
    remembered(memory, tenant, 20)
    for _ in range(5):
        found, _ = other.to_fill(tenant, 20, random_cursor())
        assert {each.image_id for each in found} <= {f"i{n}" for n in range(20)}
    assert len(other.to_fill(tenant, 20)[0]) == 20


def test_a_late_fill_brings_nothing_back_and_gives_nothing_to_another_picture(
    memory: Memory, other: Memory, tenant: str
) -> None:
    removed, replaced, stays = remembered(memory, tenant, 3)
    memory.mark(tenant, clauses(image_id=removed.image_id), "r")
    memory.delete_marked(tenant, "r")
    new = image(tenant, replaced.image_id)
    put(memory, [new])
    other.fill([removed, replaced, stays], longer(3))
    assert memory.get(tenant, [removed.image_id]) == {}
    assert memory.get(tenant, [replaced.image_id]) == {replaced.image_id: new}
    memory.remember([new], units(1, seed=5))
    assert other.fill_counts(tenant) == FillCounts(filled=1, left=1)
    assert left(other, tenant) == [replaced.image_id]
    other.give_up([removed, replaced], "it is too thin")
    assert left(other, tenant) == [replaced.image_id]


def test_a_replaced_image_loses_the_vectors_of_all_encoders_at_once(memory: Memory, other: Memory, tenant: str) -> None:
    images = remembered(memory, tenant, 2)
    other.fill(images, longer(2))
    other.give_up(images[1:], "it is too thin")
    put(memory, [image(tenant, each.image_id) for each in images])
    assert memory.fill_counts(tenant) == other.fill_counts(tenant) == FillCounts()
    again = held(memory, images)
    memory.remember(again, units(2, seed=9))
    assert other.fill_counts(tenant) == FillCounts(left=2)
    assert nearest(other, tenant, longer(2)) == []


def test_a_removal_takes_the_vectors_of_all_encoders(memory: Memory, other: Memory, tenant: str) -> None:
    images = remembered(memory, tenant, 3)
    other.fill(images, longer(3))
    memory.mark(tenant, clauses(image_id="i1"), "r")
    memory.delete_marked(tenant, "r")
    assert nearest(other, tenant, longer(3)[1:2]) != ["i1"]
    assert memory.fill_counts(tenant) == other.fill_counts(tenant) == FillCounts(filled=2)


def test_what_cannot_be_encoded_is_given_up_and_listed_with_the_reason(
    memory: Memory, other: Memory, tenant: str
) -> None:
    images = remembered(memory, tenant, 4)
    [vector] = came_as_vectors(memory, tenant, 1)
    other.fill(images[:1], longer(1))
    other.give_up(images[1:3], "it is too thin")
    memory.give_up(held(memory, images[2:3]), "another reason")
    assert left(other, tenant) == ["i3"]
    assert other.fill_counts(tenant) == FillCounts(filled=1, left=1, failed=2, vectors_only=1)
    first, cursor = other.not_encoded(tenant, 2)
    rest, end = other.not_encoded(tenant, 9, cursor)
    assert end is None
    assert {each.image_id: reason for each, reason in first + rest} == {
        "i1": "it is too thin",
        "i2": "it is too thin",
        "i3": "it is yet to be filled",
        vector.image_id: f"it came as a vector of {ENCODER}: send one of {other._encoder}",
    }
    memory.forget_encoder(other._encoder)
    assert left(other, tenant) == ["i1", "i2", "i3"]
    assert [len(each.not_encoded) for each in held(memory, images)] == [0, 0, 1, 0], "that of the other stays"
    assert memory.fill_counts(tenant) == FillCounts(filled=5)


def test_vectors_of_further_encoders_come_with_the_first(memory: Memory, other: Memory, tenant: str) -> None:
    images = [image(tenant, f"i{n}") for n in range(4)]
    put(memory, images)
    gone = image(tenant, "gone")
    rows = longer(5)
    rows[2] = np.nan
    given = {other._encoder: rows, "was dropped": longer(5)}
    assert memory.remember([*images, gone], units(5), further=given) == 4
    assert other.fill_counts(tenant) == FillCounts(filled=3, left=1)
    assert left(other, tenant) == ["i2"]
    assert nearest(other, tenant, longer(4)[[0, 1, 3]]) == ["i0", "i1", "i3"]
    assert nearest(memory, tenant, units(4)) == ["i0", "i1", "i2", "i3"]
    assert memory.get(tenant, ["gone"]) == {}


def test_a_lease_that_ended_takes_the_further_vectors_too(memory: Memory, other: Memory, tenant: str) -> None:
    put(memory, [image(tenant, "a")])
    [begun] = memory.begin(list(memory.get(tenant, ["a"]).values()))
    memory.begin([begun])  # by another
    assert memory.remember([begun], units(1), further={other._encoder: longer(1)}) == 0
    assert nearest(other, tenant, longer(1)) == []
    assert memory.count_embedded(tenant) == other.count_embedded(tenant) == 0


@pytest.mark.parametrize("wrong", [longer(1) * 2, longer(2)])
def test_vectors_that_cannot_be_remembered_are_refused(
    memory: Memory, other: Memory, tenant: str, wrong: Vectors
) -> None:
    put(memory, [image(tenant, "a")])
    waiting = list(memory.get(tenant, ["a"]).values())
    with pytest.raises(InvalidVector):
        memory.remember(waiting, units(1), further={other._encoder: wrong})
    with pytest.raises(InvalidVector):
        other.fill(waiting, wrong)
    assert memory.counts_by_state(tenant) == {State.WAITING: 1}


def test_an_image_without_this_encoder_s_vector_is_muted_and_unmuted_all_the_same(
    memory: Memory, other: Memory, tenant: str
) -> None:
    images = remembered(memory, tenant, 2)
    other.fill(images[:1], longer(1))
    assert other.mute(tenant, []) == 2
    assert memory.counts_by_state(tenant) == {State.MUTED: 2}
    assert other.unmute(tenant, []) == 2
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
    other = memory.under("other", LONGER)
    engine.add_vector("other", LONGER)
    assert engine.count(other._left("u")) == 3, "they would be taken for pictures"
    assert other.fill_counts() == FillCounts(left=2, vectors_only=3)
    assert other.to_fill("u", 9) == ([], None)
    assert left(other, "t") == [each.image_id for each in pictures]
    assert memory.get("u", ["v1"])["v1"] == vectors[1]
    shape = engine.inspect()
    assert shape is not None
    assert shape.indexes["vector_only"] == "bool"
    engine.close()
