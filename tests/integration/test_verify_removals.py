"""Promise 2: what removals say is held against the log of receipts, and what the memory holds against them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete, update

from tests.support.databases import SHORT, new_database
from tests.support.shape_pictures import picture
from tests.support.wired_service import TESTER, Parts
from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.infrastructure.records.tables import receipt_log, removals
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.verify_removals import Findings

REQUEST = RemovalRequest(filter=Filter({"subject": "ann"}), reason="asked to")


@pytest.fixture(params=SHORT)
def parts(request: pytest.FixtureRequest, memory: Memory, parts: Parts) -> Iterator[Parts]:
    """On each database."""
    with new_database(request.param, parts.folder / "another") as database:
        yield Parts(parts.folder, memory, parts.pool, given=database)


@pytest.fixture
def done(parts: Parts) -> list[Removal]:
    """Two removals that are done, and images that nobody removed."""
    parts.teach(picture("disc"), picture("disc"), subject="ann")
    parts.teach(picture("bars"), subject="bob")
    bob = REQUEST.model_copy(update={"filter": Filter({"subject": "bob"})})
    found = [parts.remove(REQUEST), parts.remove(bob)]
    parts.teach(picture("cross"), subject="eve")
    return found


def faults(parts: Parts, *receipts: str) -> list[str]:
    return parts.verify()(receipts).faults


def test_removals_are_listed_some_at_a_time(parts: Parts, done: list[Removal]) -> None:
    older, newer = done
    assert parts.removals.latest(parts.tenant).data == [newer, older]
    first = parts.removals.latest(parts.tenant, PageRequest(1, total=True))
    assert (first.data, first.total, first.total_is_estimate) == ([newer], 2, False)
    rest = parts.removals.latest(parts.tenant, PageRequest(1, first.next_cursor))
    assert (rest.data, rest.next_cursor, rest.has_more) == ([older], None, False)


def test_a_removal_is_its_tenants_alone(parts: Parts, done: list[Removal]) -> None:
    for removal_id in (done[0].id, "x", "\0", "", f"{{{done[0].id}}}"):
        with pytest.raises(NotFound):
            parts.removals.load("another", removal_id)
    assert parts.removals.load(parts.tenant, done[0].id).removal == done[0]


def test_sound_removals_have_no_faults(parts: Parts, done: list[Removal]) -> None:
    found = parts.verify()([str(each.receipt) for each in done])
    assert found == Findings(removals=2, running=0, unerased=2, images=1, faults=[], returned=[], pictures=[])


def test_nothing_in_the_records_names_what_was_removed(parts: Parts, done: list[Removal]) -> None:
    assert [(each.filter, each.receipt is None) for each in done] == [(None, False)] * 2
    assert not any("ann" in str(each.receipt) for each in done)


def change(parts: Parts, removal: Removal, **columns: Any) -> None:
    with parts.database.write() as connection:
        connection.execute(update(removals).where(removals.c.id == removal.id).values(columns))


def drop(parts: Parts, removal: Removal) -> None:
    with parts.database.write() as connection:
        connection.execute(delete(removals).where(removals.c.id == removal.id))


def drop_entry(parts: Parts, number: int) -> None:
    with parts.database.write() as connection:
        this = (receipt_log.c.tenant == parts.tenant) & (receipt_log.c.number == number)
        connection.execute(delete(receipt_log).where(this))


TAMPERED: dict[str, tuple[Callable[[Parts, list[Removal]], object], str]] = {
    "a count": (lambda parts, done: change(parts, done[0], images=99), "says something else"),
    "why": (lambda parts, done: change(parts, done[0], reason="other"), "says something else"),
    "who asked": (lambda parts, done: change(parts, done[1], requested_by="nobody"), "says something else"),
    "the receipt": (lambda parts, done: change(parts, done[0], receipt=done[1].receipt), "is another than the log's"),
    "no receipt": (lambda parts, done: change(parts, done[0], receipt=None), "is another than the log's"),
    "not done": (lambda parts, done: change(parts, done[1], step="seal", receipt=None), "is not done"),
    "record gone": (lambda parts, done: drop(parts, done[0]), "is gone"),
    "entry gone": (lambda parts, _: drop_entry(parts, 2), "is missing"),
    "last gone": (lambda parts, _: drop_entry(parts, 4), "cut off"),
}


@pytest.mark.parametrize(("tamper", "fault"), TAMPERED.values(), ids=TAMPERED)
def test_whatever_was_tampered_with_is_found(
    parts: Parts, done: list[Removal], tamper: Callable[[Parts, list[Removal]], object], fault: str
) -> None:
    tamper(parts, done)
    found = faults(parts)
    assert any(fault in each for each in found), found


def test_a_receipt_that_was_changed_by_its_holder_is_found(parts: Parts, done: list[Removal]) -> None:
    receipt = str(done[0].receipt)
    assert faults(parts, receipt) == []
    assert len(faults(parts, receipt.replace('"signature":"', '"signature":"AA'))) == 1


def test_what_comes_back_is_found_and_removed_again(parts: Parts) -> None:
    ids = parts.teach(picture("disc"), picture("disc"), subject="ann")
    images = parts.held(*ids)
    files = {image.picture: parts.pictures.read(image.picture) for image in images}
    parts.remove(REQUEST)
    stranger = parts.teach(picture("disc"), subject="ann")  # sent again by choice: not what the removal covered
    assert faults(parts) == []

    parts.memory.writes.put(images[:1])  # as a snapshot brings it back
    for key, data in files.items():
        parts.pictures.write(key, data)
    found = parts.verify()()
    assert [image.image_id for image in found.returned] == ids[:1]
    assert sorted(found.pictures) == sorted(files)
    assert len(found.faults) == 3
    parts.verify().remove_again(found)
    assert faults(parts) == []
    assert set(parts.memory.images.get(parts.tenant, [*ids, *stranger])) == set(stranger)


def test_a_removal_that_still_runs_is_no_fault(parts: Parts) -> None:
    parts.teach(picture("disc"), subject="ann")
    recorded = parts.forget().request(parts.tenant, REQUEST, TESTER)
    found = parts.verify()()
    assert (found.faults, found.running) == ([], 1)
    forget = parts.forget()
    assert forget.mark(parts.tenant), "it is noted, and not gone yet"
    assert parts.verify()().faults == []
    forget.resume(parts.tenant, recorded.id)
