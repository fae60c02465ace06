"""Promise 2: what a removal covered never votes again and never returns; with `block`, no new upload of it either."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from tests.support.running_service import Stack, fields, suspended, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.errors import Blocked, NotFound
from visual_memory.schemas.image import Image, ImagePatch, State
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus


def removal(where: dict[str, Any], **more: Any) -> RemovalRequest:
    return RemovalRequest.model_validate({"filter": where, "reason": "asked to", **more})


def teach_two_subjects(stack: Stack) -> tuple[str, dict[str, list[str]]]:
    """Two subjects under one source, three pictures of one kind each."""
    source = unique("source")
    ids = {
        subject: stack.teach(*(picture("disc") for _ in range(3)), labels=[subject], subject=subject, source=source)
        for subject in (unique("ann"), unique("bob"))
    }
    stack.remembered([image_id for each in ids.values() for image_id in each])
    return source, ids


def voters(stack: Stack, source: str) -> set[str]:
    answer = stack.http.post(
        "/v1/classify",
        files=[("files", ("p", picture("disc")))],
        data={"options": fields(k=100, filter={"source": source})},
    )
    return {neighbour["image_id"] for neighbour in answer.json()["decisions"][0]["neighbours"]}


def files_of(stack: Stack, data: bytes) -> int:
    """How many files of the pictures' folder hold these bytes."""
    return sum(path.read_bytes() == data for path in stack.picture_files())


def settled(stack: Stack, answer: httpx.Response) -> dict[str, Any]:
    """The removal that an answer names, once it is done."""

    def done() -> dict[str, Any] | None:
        found: dict[str, Any] = stack.http.get(answer.headers["Location"]).json()
        return found if found["status"] == "done" else None

    return until(done, "the removal to be done")


def test_a_preview_counts_and_changes_nothing(stack: Stack) -> None:
    source, ids = teach_two_subjects(stack)
    ann, images, files = next(iter(ids)), stack.held({"source": source}), stack.picture_files()
    asked = {"filter": {"subject": ann}, "reason": "only looking", "block": True}
    preview = stack.http.post("/v1/removals/preview", json=asked).json()
    assert (preview["images"], preview["by_state"], preview["by_label"]) == (3, {"remembered": 3}, {ann: 3})
    assert (preview["by_source"], preview["queued"], preview["is_estimate"]) == ({source: 3}, 0, False)
    assert {each["image_id"] for each in preview["samples"]} == set(ids[ann])
    assert_nothing_was_removed(stack, source, images, files)
    assert stack.teach(picture("bars"), labels=["x"], subject=ann), "a preview blocks nobody"


def assert_nothing_was_removed(stack: Stack, source: str, images: dict[str, Image], files: set[Path]) -> None:
    assert stack.held({"source": source}) == images
    assert stack.picture_files() == files
    assert not [each for each in stack.client.removals().data if each.reason == "only looking"]


def test_a_client_of_before_that_asks_for_a_dry_run_removes_nothing(stack: Stack) -> None:
    source, ids = teach_two_subjects(stack)
    images, files = stack.held({"source": source}), stack.picture_files()
    for dry_run in (True, False):
        asked = {"filter": {"subject": next(iter(ids))}, "reason": "only looking", "dry_run": dry_run}
        for path in ("/v1/removals", "/v1/removals/preview"):
            answer = stack.http.post(path, json=asked)
            assert (answer.status_code, "dry_run" in answer.text) == (422, True), answer.text
    with pytest.raises(ValidationError, match="dry_run"):
        removal({"subject": next(iter(ids))}, dry_run=True)
    assert_nothing_was_removed(stack, source, images, files)


def test_a_removal_by_subject_and_its_receipt(stack: Stack) -> None:
    source, ids = teach_two_subjects(stack)
    (ann, hers), (_, his) = ids.items()
    before, asked_at, files = stack.client.picture(hers[0]), datetime.now(UTC), stack.picture_files()
    assert voters(stack, source) == {*hers, *his}
    removed = stack.metric("visual_memory_removed_total")

    receipt = stack.client.remove(removal({"subject": ann}))

    assert receipt.status is RemovalStatus.DONE
    assert (receipt.images, receipt.pictures, receipt.by_state) == (3, 3, {State.REMEMBERED: 3})
    assert (receipt.filter, receipt.reason, receipt.block) == (None, "asked to", False)
    assert re.fullmatch(r"own service \(key [0-9a-f]{12}\)", receipt.requested_by)
    assert receipt.verified_at is not None
    assert asked_at < receipt.requested_at < receipt.verified_at
    assert stack.client.removal(receipt.id) == receipt
    assert stack.client.removals().data[0] == receipt
    assert stack.metric("visual_memory_removed_total") == removed + 3

    for image_id in hers:
        for path in ("", "/picture", "/thumbnail"):
            assert stack.http.get(f"/v1/images/{image_id}{path}").status_code == 404
    assert set(stack.held({"source": source})) == set(his)
    assert voters(stack, source) == set(his)
    assert len(files - stack.picture_files()) == 3
    assert files_of(stack, before) == 0
    assert stack.client.picture(his[0])


def test_what_waits_and_what_was_rejected_goes_too(stack: Stack) -> None:
    subject = unique("ann")
    [remembered] = stack.teach(picture("disc"), labels=["x"], subject=subject)
    stack.remembered([remembered])
    with suspended(stack.child("worker")):
        files = stack.picture_files()
        [rejected] = stack.teach(picture("disc"), labels=["x"], subject=subject)
        for path in (stack.picture_files() - files) | stack.pixel_files():
            path.unlink()
    image = stack.settled([rejected])[rejected]
    assert (image.state, image.reason) == (State.REJECTED, "its picture is gone from the blob store")
    with suspended(stack.child("worker")):
        files = stack.picture_files()
        [waiting] = stack.teach(picture("disc"), labels=["x"], subject=subject)
        assert stack.client.preview_removal(removal({"subject": subject})).images == 3
        receipt = stack.client.remove(removal({"subject": subject}))
        assert receipt.status is RemovalStatus.DONE
        assert receipt.by_state == {State.REMEMBERED: 1, State.REJECTED: 1, State.WAITING: 1}
        assert not stack.picture_files() - files
        assert not stack.pixel_files()
    # the worker finds the message of the removed image, and must not bring it back
    [later] = stack.teach(picture("disc"), labels=["x"], subject=unique("bob"))
    stack.remembered([later])
    assert stack.held({"subject": subject}) == {}
    with pytest.raises(NotFound):
        stack.client.image(waiting)


def test_deleting_one_image_gives_a_receipt(stack: Stack) -> None:
    source, ids = teach_two_subjects(stack)
    first, *others = [image_id for each in ids.values() for image_id in each]
    answer = stack.http.delete(f"/v1/images/{first}")
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/removals/{answer.json()['id']}")
    receipt = settled(stack, answer)
    assert (receipt["status"], receipt["images"], receipt["filter"]) == ("done", 1, None)
    assert (receipt["stage"], receipt["done"], receipt["total"]) == ("", 1, 1)
    assert set(stack.held({"source": source})) == set(others)
    assert stack.client.removal(receipt["id"]).verified_at is not None
    assert stack.http.delete(f"/v1/images/{first}").status_code == 404


def test_a_removal_that_meets_nothing_is_done_too(stack: Stack) -> None:
    receipt = stack.client.remove(removal({"subject": unique("nobody")}))
    assert (receipt.status, receipt.images, receipt.pictures) == (RemovalStatus.DONE, 0, 0)


def test_without_block_the_same_may_be_taught_again(stack: Stack) -> None:
    subject, data = unique("ann"), picture("disc")
    [image_id] = stack.teach(data, labels=["x"], subject=subject)
    stack.remembered([image_id])
    stack.client.remove(removal({"subject": subject}))
    assert stack.teach(data, labels=["x"], subject=subject) == [image_id]
    assert set(stack.remembered([image_id])) == {image_id}


def test_block_refuses_the_content_and_the_subject(stack: Stack) -> None:
    subject, content, source = unique("ann"), picture("disc"), unique("source")
    [image_id] = stack.teach(content, labels=["x"], subject=subject, source=source)
    [other] = stack.teach(picture("disc"), labels=["x"], subject=unique("bob"), source=source)
    stack.remembered([image_id, other])
    receipt = stack.client.remove(removal({"subject": subject}, block=True))
    assert (receipt.status, receipt.block, receipt.images) == (RemovalStatus.DONE, True, 1)
    files, images = stack.picture_files(), stack.held({"source": source})

    with pytest.raises(Blocked, match=image_id):  # the same bytes, of nobody
        stack.teach(content, labels=["x"], source=source)
    with pytest.raises(Blocked, match="new-name"):  # the same bytes under another name
        stack.teach(content, labels=["x"], source=source, image_id="new-name")
    with pytest.raises(Blocked):  # another picture of the same subject
        stack.teach(picture("bars"), labels=["x"], source=source, subject=subject)
    with pytest.raises(Blocked):  # all or none
        stack.teach(picture("bars"), content, labels=["x"], source=source)
    with pytest.raises(Blocked):  # an image is not given to the subject afterwards
        stack.client.amend(other, ImagePatch(subject=subject))
    answer = stack.http.post(
        "/v1/images", files=[("files", ("p", content))], data={"fields": fields(labels=["x"], source=source)}
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "blocked")

    assert stack.picture_files() == files
    assert stack.held({"source": source}) == images


def test_block_by_another_field_refuses_the_contents_that_it_covered(stack: Stack) -> None:
    source, content = unique("source"), picture("checks")
    stack.remembered(stack.teach(content, labels=["x"], source=source))
    stack.client.remove(removal({"source": source}, block=True))
    with pytest.raises(Blocked):
        stack.teach(content, labels=["x"])
    assert stack.teach(picture("checks"), labels=["x"], source=source), "a source is not blocked, only contents are"


@pytest.mark.one_machine
def test_a_removal_interrupted_by_kill_9_carries_on(victim: Stack) -> None:
    subject = unique("ann")
    hers = victim.teach(*(picture("disc") for _ in range(4)), labels=["x"], subject=subject)
    his = victim.teach(picture("bars"), labels=["x"], subject=unique("bob"))
    victim.remembered([*hers, *his])

    files = victim.picture_files()
    engine, api = victim.child("engine"), victim.child("api")
    with suspended(engine):  # so that the removal stands still after its record and before its points
        asked = {"filter": {"subject": subject}, "reason": "asked to", "block": True}
        answer = victim.http.post("/v1/removals", json=asked)
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.headers["Retry-After"] == "1"
        api.kill()
        api.wait(60)
    victim.until_ready()

    receipt = victim.client.removal(settled(victim, answer)["id"])
    assert (receipt.images, receipt.by_state, receipt.pictures) == (4, {State.REMEMBERED: 4}, 4)
    assert receipt.verified_at is not None
    assert victim.held({"subject": subject}) == {}
    assert len(files - victim.picture_files()) == 4
    with pytest.raises(Blocked):
        victim.teach(picture("disc"), labels=["x"], subject=subject)
    assert victim.client.image(his[0]).state is State.REMEMBERED


def test_everything_must_be_said_and_is_done(victim: Stack) -> None:
    ids = victim.teach(picture("disc"), picture("bars"), labels=["x"])
    victim.remembered(ids)
    held: dict[str, Image] = victim.held({})
    receipt = victim.client.remove(RemovalRequest(everything=True, reason="the end of the test"))
    assert (receipt.status, receipt.everything, receipt.images) == (RemovalStatus.DONE, True, len(held))
    assert victim.held({}) == {}
    assert not {path for path in victim.picture_files() if victim.tenant in path.parts}
    assert victim.client.labels().data == []
    [decision] = victim.client.classify([picture("disc")]).decisions
    assert (decision.label, decision.reason) == (None, "the memory is empty: no image is remembered yet")
    assert receipt.filter is None
