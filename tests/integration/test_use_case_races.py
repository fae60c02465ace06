"""Promises 1 and 2 where use cases meet: what comes late changes nothing, and what comes twice comes once."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Barrier
from typing import Any

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Once, Parts, Pixels
from visual_memory.schemas.errors import BeingRemoved, Blocked, Conflict, Unavailable
from visual_memory.schemas.image import ImageFields, ImagePatch, State
from visual_memory.schemas.removal import Removal, RemovalRequest, RemovalStatus
from visual_memory.services.intake.accept_pictures import Upload


def remove(parts: Parts, **request: Any) -> Removal:
    forget = parts.forget()
    asked = RemovalRequest.model_validate({"reason": "asked to", **request})
    receipt = parts.remove(asked, forget)
    assert receipt.status is RemovalStatus.DONE
    return receipt


def test_a_late_worker_puts_nothing_back(parts: Parts) -> None:
    data = picture("disc")
    ids = [each.image_id for each in parts.send(data, picture("bars"), subject="ann")]
    late = Pixels(before=lambda _images: remove(parts, filter={"subject": "ann"}))
    parts.work(late)
    assert late.encoded == 2, "it had the pictures in its hands"
    assert parts.memory.images.get(parts.tenant, ids) == {}
    assert parts.voters(data) == set()
    assert parts.files() == set()


def test_a_message_that_comes_after_the_removal_is_dropped_quietly(parts: Parts) -> None:
    ids = [each.image_id for each in parts.send(picture("disc"))]
    remove(parts, filter={"image_id": ids})
    parts.work()
    assert parts.encoder.encoded == 0
    assert parts.memory.images.get(parts.tenant, ids) == {}


def test_a_picture_replaced_while_it_is_embedded_keeps_the_new_one(parts: Parts) -> None:
    old, new = picture("disc"), picture("bars")
    parts.send(old, image_id="one")
    late = Pixels(before=lambda _images: parts.send(new, image_id="one", labels=["bars"]))
    parts.work(late)
    [image] = parts.held("one")
    assert (image.state, image.encoder, image.content_hash) == (State.WAITING, None, sha256(new).hexdigest())
    assert parts.voters(old) == set()
    parts.work()
    [neighbour] = parts.ask(new).neighbours
    assert neighbour.similarity == pytest.approx(1, abs=1e-5)
    assert len(parts.files()) == 1


def test_two_workers_with_the_same_message_embed_it_once(parts: Parts) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(3)))]
    other = Pixels()
    first = Pixels(before=lambda _images: parts.work(other))
    parts.work(first)
    assert (first.encoded, other.encoded) == (3, 0)
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}


def test_a_removal_between_the_check_and_the_point_refuses_the_picture(parts: Parts) -> None:
    # the removal is asked for, carried out and done while the picture is being written
    race = Once("write_many", lambda: remove(parts, filter={"subject": "ann"}, block=True))
    with pytest.raises(Blocked):
        parts.send(picture("disc"), subject="ann", accept=parts.accept(pictures=Hooked(parts.pictures, race)))
    assert race.called
    assert parts.memory.images.count(parts.tenant) == 0
    assert parts.files() == set()


def test_a_removal_while_an_image_is_given_to_its_subject_refuses_it(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one", subject="bob")
    race = Once("put", lambda: remove(parts, filter={"subject": "ann"}, block=True))
    with pytest.raises(Blocked):
        parts.send(data, image_id="one", subject="ann", accept=parts.accept(memory=Hooked(parts.memory, race)))
    assert race.called
    assert "ann" not in {image.subject for image in parts.memory.images.get(parts.tenant, ["one"]).values()}


def test_a_removal_while_a_patch_names_its_subject_refuses_it(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", subject="bob")
    race = Once("change", lambda: remove(parts, filter={"subject": "ann"}, block=True))
    with pytest.raises(Blocked):
        parts.amend_image(memory=Hooked(parts.memory, race))(parts.tenant, "one", ImagePatch(subject="ann"))
    assert "ann" not in {image.subject for image in parts.memory.images.get(parts.tenant, ["one"]).values()}


def test_the_same_id_from_many_threads_at_once_leaves_one_picture(parts: Parts) -> None:
    pictures, start, accept = [picture("disc") for _ in range(8)], Barrier(8), parts.accept()

    def send(data: bytes) -> str:
        start.wait(60)
        return parts.send(data, image_id="one", accept=accept)[0].image_id

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, pictures)) == {"one"}
    [image] = parts.held("one")
    held = parts.pictures.read(image.picture)
    assert held in pictures
    assert sha256(held).hexdigest() == image.content_hash
    assert len(parts.files()) == 1, "a picture without a point is out of reach of every removal"
    parts.work()
    assert parts.ask(held).neighbours[0].similarity == pytest.approx(1, abs=1e-5)


def test_a_store_that_fails_leaves_what_was_there(parts: Parts) -> None:
    old = picture("disc")
    parts.teach(old, image_id="one")
    before, files = parts.held("one"), parts.files()

    def fail() -> None:
        raise Unavailable("the store does not answer")

    with pytest.raises(Unavailable):
        parts.send(picture("bars"), image_id="one", accept=parts.accept(memory=Hooked(parts.memory, Once("put", fail))))
    assert parts.held("one") == before
    assert parts.files() >= files
    assert parts.voters(old) == {"one"}


def test_a_store_that_took_the_point_but_did_not_say_so_can_be_asked_again(parts: Parts) -> None:
    data = picture("disc")

    def fail() -> None:
        raise Unavailable("the answer was lost")

    with pytest.raises(Unavailable):
        parts.send(data, image_id="one", accept=parts.accept(memory=Hooked(parts.memory, after=Once("put", fail))))
    parts.send(data, image_id="one")
    parts.work()
    [image] = parts.held("one")
    assert (image.state, image.reason) == (State.REMEMBERED, None)


def test_an_amendment_follows_a_replacement(parts: Parts) -> None:
    new = picture("bars")
    parts.teach(picture("disc"), image_id="one", source="old")
    race = Once("change", lambda: parts.send(new, image_id="one", source="new"))
    parts.amend_image(memory=Hooked(parts.memory, race))(parts.tenant, "one", ImagePatch(subject="ann"))
    [image] = parts.held("one")
    assert (image.content_hash, image.source, image.subject) == (sha256(new).hexdigest(), "new", "ann")


def test_an_amendment_that_never_gets_a_turn_says_so(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one")

    def replace(name: str) -> None:
        if name == "change":
            parts.send(picture("disc"), image_id="one")

    with pytest.raises(Conflict, match="send the change again"):
        parts.amend_image(memory=Hooked(parts.memory, replace))(parts.tenant, "one", ImagePatch(subject="ann"))


def test_patches_of_different_fields_at_once_all_stay(parts: Parts) -> None:
    """Promise 1 and 2: one of two was lost, and a removal by the lost subject missed the image."""
    ids, start, amend_image = parts.teach(*(picture("disc") for _ in range(20))), Barrier(2), parts.amend_image()

    def amend(patch: ImagePatch) -> None:
        for image_id in ids:
            start.wait(60)
            amend_image(parts.tenant, image_id, patch)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(amend, [ImagePatch(subject="ann"), ImagePatch(source="camera")]))
    assert {(image.subject, image.source) for image in parts.held(*ids)} == {("ann", "camera")}


def test_a_patch_while_the_image_is_sent_again_stays(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one")
    race = Once("put", lambda: parts.amend_image()(parts.tenant, "one", ImagePatch(subject="ann")))
    parts.send(picture("bars"), image_id="one", source="s", accept=parts.accept(memory=Hooked(parts.memory, race)))
    [image] = parts.held("one")
    assert image.source == "s"
    assert len(parts.files()) == 1


def test_what_is_being_removed_is_refused_before_anything_is_accepted(parts: Parts) -> None:
    """Promise 1: of what was sent again with another subject 15 of 24 were answered 202 and gone."""
    marked, other, new = (picture("disc") for _ in range(3))
    parts.teach(marked, image_id="one", subject="ann")
    parts.memory.marks.mark(parts.tenant, [], "r")
    before, files = parts.held("one"), parts.files()
    for data in (marked, picture("bars")):
        with pytest.raises(BeingRemoved) as refused:
            parts.accept()(
                parts.tenant,
                [
                    Upload(data, ImageFields(labels=["cat"], image_id="one", subject="bob")),
                    Upload(new, ImageFields(labels=["cat"], image_id="two")),
                ],
            )
        assert (refused.value.status, refused.value.code) == (409, "being_removed")
    with pytest.raises(BeingRemoved):
        parts.amend_image()(parts.tenant, "one", ImagePatch(subject="bob"))
    assert parts.held("one") == before
    assert parts.memory.images.count(parts.tenant) == 1
    assert parts.files() == files
    parts.memory.marks.delete(parts.tenant, ["one"], "r")
    parts.send(other, image_id="one", subject="bob")
    assert parts.held("one")[0].subject == "bob"


def test_a_mark_between_look_and_write_refuses_too(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one", subject="ann")
    before, files = parts.held("one"), parts.files()
    for sent in (data, picture("bars")):
        race = Once("put", lambda: parts.memory.marks.mark(parts.tenant, [], "r"))
        with pytest.raises(BeingRemoved):
            parts.send(sent, image_id="one", subject="bob", accept=parts.accept(memory=Hooked(parts.memory, race)))
        parts.memory.marks.clear(parts.tenant, ["r"])
        assert (parts.held("one"), parts.files()) == (before, files)
    race = Once("change", lambda: parts.memory.marks.mark(parts.tenant, [], "r"))
    with pytest.raises(BeingRemoved):
        parts.amend_image(memory=Hooked(parts.memory, race))(parts.tenant, "one", ImagePatch(subject="bob"))
