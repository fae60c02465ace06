"""Promises 2 and 3: whoever changes, drops or invents a removal is found out, and so is whatever comes back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from schemas.removal import Event, Removal, RemovalRequest
from services.forgetting.removal_log import RemovalLog
from services.forgetting.verify import Findings, Verify
from tests.shapes import picture

from .support import KEY, Parts, damage

REQUEST = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})


def verify(parts: Parts) -> Verify:
    return Verify(parts.memory, parts.pictures, parts.removals, parts.removal_log)


def faults(parts: Parts, *receipts: Removal) -> list[str]:
    return verify(parts)(receipts).faults


@pytest.fixture
def receipts(parts: Parts) -> list[Removal]:
    """Two removals that are done, of two tenants, and a third tenant's images that nobody removed."""
    parts.teach(picture("disc"), picture("disc"), subject="ann")
    parts.teach(picture("bars"), subject="bob")
    done = []
    for subject in ("ann", "bob"):
        request = REQUEST.model_copy(update={"filter": type(REQUEST.filter)({"subject": subject})})
        recorded = parts.forget().request(parts.tenant, request, "a test")
        done.append(parts.forget().carry_on(parts.tenant, recorded.id))
    parts.teach(picture("cross"), subject="eve")
    return done


def test_removals_are_listed_some_at_a_time(parts: Parts, receipts: list[Removal]) -> None:
    older, newer = receipts
    assert parts.removals.latest(parts.tenant, 10) == [newer, older]
    assert parts.removals.latest(parts.tenant, 1) == [newer]
    assert parts.removals.latest(parts.tenant, 10, newer.requested_at) == [older]
    assert parts.removals.latest(parts.tenant, 10, older.requested_at) == []


def test_sound_removals_have_no_faults(parts: Parts, receipts: list[Removal]) -> None:
    found = verify(parts)(receipts)
    assert found == Findings(removals=2, running=0, unerased=2, images=1, faults=[], returned=[], pictures=[])


def test_the_log_is_a_chain_of_signed_entries(parts: Parts, receipts: list[Removal]) -> None:
    entries = list(parts.removal_log.entries(parts.tenant))
    assert [entry.number for entry in entries] == [1, 2, 3, 4]
    assert [entry.event for entry in entries] == [Event.REQUESTED, Event.DONE] * 2
    assert len({entry.previous for entry in entries}) == 4
    assert all(parts.removal_log.signed(entry) for entry in entries)
    assert not any(RemovalLog(parts.ledger, b"x" * 32).signed(entry) for entry in entries)
    assert [receipt.seal for receipt in receipts] == [entries[1], entries[3]]
    assert all(earlier.at <= later.at for earlier, later in pairwise(entries))


def test_a_damaged_record_is_a_fault_and_the_others_are_checked(parts: Parts, receipts: list[Removal]) -> None:
    damage(parts, f"removals/{parts.tenant}/{receipts[0].id}")
    assert faults(parts) == [f"the record of removal {receipts[0].id} is damaged"]


def test_many_who_write_at_once_make_one_chain(parts: Parts, receipts: list[Removal]) -> None:
    logs = [RemovalLog(parts.ledger, KEY) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda log: [log.append("many", Event.DONE, receipts[0]) for _ in range(10)], logs))
    assert [entry.number for entry in parts.removal_log.entries("many")] == list(range(1, 81))
    assert list(parts.removal_log.faults("many")) == []


def change(parts: Parts, key: str, **fields: Any) -> None:
    parts.ledger.put(key, {**parts.ledger.get(key), **fields})


def change_record(parts: Parts, removal: Removal, **fields: Any) -> None:
    key = f"removals/{parts.tenant}/{removal.id}"
    record = parts.ledger.get(key)
    parts.ledger.put(key, {**record, "removal": {**record["removal"], **fields}})


def forge(parts: Parts, removal: Removal) -> None:
    """Change the receipt and sign it anew with a key of one's own."""
    forger = RemovalLog(parts.ledger, b"f" * 32)
    forged = removal.model_copy(update={"images": 0, "seal": None})
    seal = forger.append(parts.tenant, Event.DONE, forged)
    change_record(parts, removal, images=0, seal=seal.model_dump(mode="json"))


TAMPERED: dict[str, tuple[Callable[[Parts, list[Removal]], object], str]] = {
    "a count": (lambda parts, done: change_record(parts, done[0], images=99), "was changed"),
    "a moment": (lambda parts, done: change_record(parts, done[1], verified_at="2020-01-01T00:00:00Z"), "was changed"),
    "what was asked": (lambda parts, done: change_record(parts, done[0], filter={"subject": "x"}), "something else"),
    "the seal": (lambda parts, done: change_record(parts, done[0], seal=None), "was changed"),
    "who asked": (lambda parts, done: change_record(parts, done[1], requested_by="nobody"), "something else"),
    "not done": (lambda parts, done: change_record(parts, done[1], status="running"), "is not done"),
    "record gone": (lambda parts, done: parts.ledger.delete(f"removals/{parts.tenant}/{done[0].id}"), "is gone"),
    "entry gone": (lambda parts, _: parts.ledger.delete(f"log/{parts.tenant}/{2:012d}"), "breaks off"),
    "first gone": (lambda parts, _: parts.ledger.delete(f"log/{parts.tenant}/{1:012d}"), "breaks off"),
    "entry changed": (lambda parts, _: change(parts, f"log/{parts.tenant}/{1:012d}", digest="0" * 64), "signature"),
    "entry moved": (
        lambda parts, _: parts.ledger.put(
            f"log/{parts.tenant}/{2:012d}", parts.ledger.get(f"log/{parts.tenant}/{4:012d}")
        ),
        "is another's",
    ),
    "forged": (lambda parts, done: forge(parts, done[0]), "signature"),
}


@pytest.mark.parametrize(("tamper", "fault"), TAMPERED.values(), ids=TAMPERED)
def test_whatever_was_tampered_with_is_found(
    parts: Parts, receipts: list[Removal], tamper: Callable[[Parts, list[Removal]], object], fault: str
) -> None:
    tamper(parts, receipts)
    found = faults(parts)
    assert any(fault in each for each in found), found


def test_a_log_that_was_cut_off_at_its_end_is_found_by_a_receipt(parts: Parts, receipts: list[Removal]) -> None:
    last = receipts[1]
    for number in (3, 4):
        parts.ledger.delete(f"log/{parts.tenant}/{number:012d}")
    parts.ledger.delete(f"removals/{parts.tenant}/{last.id}")
    assert faults(parts) == [], "nothing that is left says that there was more"
    assert faults(parts, *receipts) == [f"receipt {last.id} is not in the log"]


def test_a_receipt_that_was_changed_by_its_holder_is_found(parts: Parts, receipts: list[Removal]) -> None:
    changed = receipts[0].model_copy(update={"images": 1000})
    assert faults(parts, changed) == [f"receipt {changed.id} was changed after it was sealed"]
    assert faults(parts, changed.model_copy(update={"seal": None})) == [f"receipt {changed.id} has no seal"]


def test_what_comes_back_is_found_and_removed_again(parts: Parts) -> None:
    ids = parts.teach(picture("disc"), picture("disc"), subject="ann")
    images = parts.held(*ids)
    files = {image.picture: parts.pictures.read(image.picture) for image in images}
    recorded = parts.forget().request(parts.tenant, REQUEST, "a test")
    parts.forget().carry_on(parts.tenant, recorded.id)
    stranger = parts.teach(picture("disc"), subject="ann")  # sent again by choice: not what the removal covered
    assert faults(parts) == []

    parts.memory.put(images[:1])  # as a snapshot brings it back
    for key, data in files.items():
        parts.pictures.write(key, data)
    found = verify(parts)()
    assert [image.image_id for image in found.returned] == ids[:1]
    assert sorted(found.pictures) == sorted(files)
    assert len(found.faults) == 3
    verify(parts).remove_again(found)
    assert faults(parts) == []
    assert set(parts.memory.get(parts.tenant, [*ids, *stranger])) == set(stranger)


def test_a_removal_that_still_runs_is_no_fault(parts: Parts) -> None:
    parts.forget().request(parts.tenant, REQUEST, "a test")
    found = verify(parts)()
    assert (found.faults, found.running) == ([], 1)
