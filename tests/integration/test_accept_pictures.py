"""How few steps accepting takes: one read and one write for each group, and nothing is decoded twice."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.support.memory_images import reject
from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Once, Parts
from visual_memory.schemas.errors import Conflict, InvalidPicture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Engine


class Calls:
    """An engine whose calls are noted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.made.append(name)
        return getattr(self._engine, name)


class Counted:
    """The use case with its calls of the engine, and the number of pictures that it decodes."""

    def __init__(self, parts: Parts) -> None:
        self._engine, self._decoder = Calls(parts.memory.points.engine), parts.decoder
        memory = Memory(cast(Engine, self._engine), "pixels", parts.memory.dimension, parts.memory.metadata)
        self.accept = replace(parts.accept(memory=memory), decoder=cast(Decoder, self))
        self.calls, self.decoded = self._engine.made, 0

    def check(self, tenant: str, pictures: Sequence[bytes], keep: Any, places: Sequence[int]) -> None:
        self.decoded += len(places)
        self._decoder.check(tenant, pictures, keep, places)


@pytest.fixture
def counted(parts: Parts) -> Counted:
    return Counted(parts)


def test_new_pictures_are_one_read_and_one_write(parts: Parts, counted: Counted) -> None:
    parts.send(*(picture("disc") for _ in range(20)), accept=counted.accept)
    assert (counted.calls, counted.decoded) == (["retrieve", "write"], 20)


def test_known_pictures_are_one_read_and_are_not_decoded(parts: Parts, counted: Counted) -> None:
    pictures = [picture("disc") for _ in range(20)]
    ids = parts.teach(*pictures)
    accepted = parts.send(*pictures, accept=counted.accept)
    assert (counted.calls, counted.decoded) == (["retrieve"], 0)
    assert [(each.image_id, each.state) for each in accepted] == [(each, State.REMEMBERED) for each in ids]


def test_known_pictures_with_another_field_each_are_one_write_more(parts: Parts, counted: Counted) -> None:
    pictures = [picture("disc") for _ in range(20)]
    ids = [parts.teach(each, labels=[f"label-{n}"])[0] for n, each in enumerate(pictures)]
    parts.send(*pictures, accept=counted.accept, labels=["cat"], source="camera")
    assert (counted.calls, counted.decoded) == (["retrieve", "write"], 0)
    held = parts.held(*ids)
    assert {(image.source, *image.labels, image.state) for image in held} == {("camera", "cat", State.REMEMBERED)}
    assert [image.history[0].labels for image in held] == [[f"label-{n}"] for n in range(20)]


def test_all_kinds_in_one_request_are_one_read_and_one_write(parts: Parts, counted: Counted) -> None:
    same, changed, replaced, rejected, new = (picture("disc") for _ in range(5))
    parts.teach(same, image_id="same")
    parts.teach(changed, image_id="changed", labels=["dog"])
    parts.teach(picture("bars"), image_id="replaced")
    parts.send(rejected, image_id="rejected")
    reject(parts.memory, parts.held("rejected")[0], "a reason")
    given = {"same": same, "changed": changed, "replaced": replaced, "rejected": rejected, "new": new}
    uploads = [Upload(data, ImageFields(labels=["cat"], image_id=image_id)) for image_id, data in given.items()]
    counted.accept(parts.tenant, uploads)
    assert counted.decoded == 3, "what is new, what was replaced, what was rejected"
    assert counted.calls == ["retrieve", "write"]
    states = {image.image_id: image.state for image in parts.held(*given)}
    assert {name for name, state in states.items() if state is State.WAITING} == {"replaced", "rejected", "new"}
    assert len(parts.files()) == len(given)


def test_a_bad_picture_beside_known_ones_changes_nothing_and_is_named(parts: Parts) -> None:
    known = picture("disc")
    [image_id] = parts.teach(known)
    before = parts.held(image_id)
    with pytest.raises(InvalidPicture, match="picture 2 of 2"):
        parts.send(known, b"no picture", source="camera")
    assert parts.held(image_id) == before


def test_a_bad_picture_refuses_all_even_where_another_takes_its_place(parts: Parts) -> None:
    with pytest.raises(InvalidPicture, match="picture 1 of 2"):
        parts.send(b"no picture", picture("disc"), image_id="one")
    assert parts.memory.images.count(parts.tenant) == 0


def test_of_an_id_that_comes_twice_both_are_decoded_and_the_last_stays(parts: Parts, counted: Counted) -> None:
    parts.send(picture("bars"), picture("disc"), image_id="one", accept=counted.accept)
    assert counted.decoded == 2
    assert (len(parts.files()), len(parts.pixels())) == (1, 1)


def test_a_picture_that_comes_often_in_one_request_is_decoded_once(parts: Parts, counted: Counted) -> None:
    frame, other = picture("disc"), picture("bars")
    parts.send(*[frame] * 20, accept=counted.accept)
    assert (counted.calls, counted.decoded) == (["retrieve", "write"], 1)
    parts.send(*[other] * 10, *[frame] * 10, image_id="one", accept=counted.accept)
    assert counted.decoded == 1 + 2
    parts.send(*[frame] * 20, accept=counted.accept)
    assert counted.decoded == 1 + 2, "it is known"


def test_a_known_picture_that_is_replaced_meanwhile_is_put_as_if_it_came_later(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one", labels=["dog"])
    race = Once("put", lambda: parts.send(picture("bars"), image_id="one"))
    accept = parts.accept(memory=Hooked(parts.memory, race))
    parts.send(data, image_id="one", labels=["cat"], accept=accept)
    [image] = parts.held("one")
    assert (image.labels, image.state) == (["cat"], State.WAITING)
    assert parts.pictures.read(image.picture) == data
    assert len(parts.files()) == 1


def test_a_known_picture_that_is_replaced_again_and_again_is_to_be_sent_again(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one", labels=["dog"])

    def race(name: str) -> None:
        if name == "put":
            held = parts.held("one")[0]
            parts.memory.writes.put([held.model_copy(update={"picture": f"{held.picture}0"})], {"one": held})

    with pytest.raises(Conflict, match="send it again"):
        parts.send(data, image_id="one", labels=["cat"], accept=parts.accept(memory=Hooked(parts.memory, race)))
    assert parts.held("one")[0].labels == ["dog"]


def test_who_stood_still_until_its_pictures_were_deleted_writes_them_again(parts: Parts) -> None:
    """Promise 1: files without a point go after a while, and this process puts its points later than that."""

    def sweep() -> None:
        assert parts.compact().remove_orphans().deleted == 1
        assert parts.files() | parts.pixels() == set()

    data = picture("disc")
    [accepted] = parts.send(data, accept=parts.accept(memory=Hooked(parts.memory, Once("put", sweep))))
    [image] = parts.held(accepted.image_id)
    assert parts.pictures.read(image.picture) == data
    parts.work()
    assert parts.held(accepted.image_id)[0].state is State.REMEMBERED


def test_what_a_removal_took_is_not_written_again(parts: Parts) -> None:
    request = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")
    removed = Once("put", lambda: parts.remove(request))
    parts.send(picture("disc"), subject="ann", accept=parts.accept(memory=Hooked(parts.memory, after=removed)))
    assert removed.called
    assert parts.files() | parts.pixels() == set()
