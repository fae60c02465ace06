"""Promise 3: what was removed is erased once it has waited long enough; one receipt delays no other."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.support.databases import SHORT, new_database
from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Killed, Once, Parts
from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Event
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.infrastructure.task_queue.periodic_task_last_runs import PeriodicTaskRuns
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.erasure.erase_removed_data import SMALL_BYTES, SMALL_DELAY, EraseRemovedData
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LARGE = SMALL_BYTES + 1


@pytest.fixture(params=SHORT)
def parts(request: pytest.FixtureRequest, memory: Memory, parts: Parts) -> Iterator[Parts]:
    """On each database."""
    with new_database(request.param, parts.folder / "another") as database:
        yield Parts(parts.folder, memory, parts.pool, given=database)


def large(parts: Parts, memory: object = None) -> EraseRemovedData:
    return parts.compact(memory, LARGE)


def removed(parts: Parts, subject: str = "ann", **said: Any) -> Removal:
    parts.teach(picture("disc"), subject=subject)
    return parts.remove(RemovalRequest(filter=Filter({"subject": subject}), reason="asked to", **said))


def load(parts: Parts, removal: Removal) -> Removal:
    return parts.removals.load(parts.tenant, removal.id).removal


def erased(parts: Parts, removal: Removal) -> bool:
    found = load(parts, removal)
    assert (found.erasure is None) == (found.erasure_receipt is None)
    return found.erasure is not None


def test_the_oldest_removal_says_when_it_is_due_in_whatever_process(parts: Parts) -> None:
    assert large(parts).if_due(now() + 3 * DAY) is None
    first = removed(parts)
    assert large(parts).if_due() is None
    second = removed(parts, "bob")
    assert large(parts).if_due(now() + DAY - HOUR) is None
    assert not erased(parts, first)
    assert large(parts).if_due(now() + DAY) is not None
    assert erased(parts, first)
    assert erased(parts, second)
    assert large(parts).if_due(now() + 3 * DAY) is None
    assert [entry.event for entry in parts.receipts.log.entries(parts.tenant)][-2:] == [Event.ERASED] * 2
    given = [load(parts, each) for each in (first, second)]
    assert parts.verify()([str(text) for each in given for text in (each.receipt, each.erasure_receipt)]).faults == []


def test_a_small_memory_is_rewritten_within_minutes(parts: Parts) -> None:
    receipt = removed(parts)
    assert parts.compact().if_due(now() + SMALL_DELAY - MINUTE) is None
    assert parts.compact().if_due(now() + SMALL_DELAY) is not None
    assert erased(parts, receipt)


def test_at_once_is_at_once_and_takes_the_others_along(parts: Parts) -> None:
    waiting = removed(parts)
    assert large(parts).if_due() is None
    receipt = removed(parts, "bob", erase_now=True)
    assert large(parts).if_due() is not None
    assert erased(parts, receipt)
    assert erased(parts, waiting)


def test_a_last_run_in_the_future_delays_nothing(parts: Parts) -> None:
    removed(parts)
    large(parts).if_due(now() + 300 * DAY)
    receipt = removed(parts)
    assert large(parts).if_due(now() + DAY) is not None
    assert erased(parts, receipt)


def test_what_is_done_during_the_rewrite_waits_for_the_next(parts: Parts) -> None:
    first, later = removed(parts), list[Removal]()
    memory = Hooked(parts.memory, Once("compact", lambda: later.append(removed(parts, "bob"))))
    large(parts, memory)()
    assert erased(parts, first)
    assert not erased(parts, later[0])
    large(parts)()
    assert erased(parts, later[0])


@pytest.mark.parametrize("step", ["before", "after"])
def test_killed_at_the_rewrite_another_gives_the_receipts(parts: Parts, step: str) -> None:
    receipt = removed(parts)

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        large(parts, Hooked(parts.memory, **{step: Once("compact", die)}))()
    assert not erased(parts, receipt)
    large(parts)()
    assert erased(parts, receipt)


def test_a_mirror_that_is_away_delays_the_receipt_alone(parts: Parts) -> None:
    receipts = [removed(parts), removed(parts, "bob")]

    def fail(_tenant: str, _number: int) -> None:
        raise Unavailable("waiting for the mirror: as a test")

    replace(large(parts), write_to_mirror=fail)()
    assert [load(parts, each).waits_for for each in receipts] == ["waiting for the mirror: as a test"] * 2
    assert not any(erased(parts, each) for each in receipts)
    assert large(parts).if_due() is None, "nothing is to be rewritten"
    assert all(erased(parts, each) for each in receipts)
    assert [load(parts, each).waits_for for each in receipts] == [None] * 2
    assert len([entry for entry in parts.receipts.log.entries(parts.tenant) if entry.event == Event.ERASED]) == 2


def test_of_two_at_once_one_is_told(parts: Parts) -> None:
    receipt = removed(parts)
    said: list[str] = []

    def another() -> None:
        with pytest.raises(Unavailable) as told:
            large(parts)()
        said.append(told.value.message)

    large(parts, Hooked(parts.memory, Once("compact", another)))()
    assert said == ["another compaction is at work: try again once it has ended"]
    assert erased(parts, receipt)


def orphan(parts: Parts) -> str:
    """A picture and pixels of an attempt that died before its point."""
    key = parts.pictures.new_key(parts.tenant, "image", "0" * 64)
    parts.pictures.write(key, b"picture")
    parts.pictures.store_pixels(key, b"pixels")
    return key


def with_grace(parts: Parts, grace: timedelta) -> EraseRemovedData:
    return replace(
        large(parts),
        remove_orphans=RemoveOrphanFiles(parts.memory, parts.pictures, PeriodicTaskRuns(parts.database), grace),
    )


def test_nothing_is_said_to_be_erased_while_a_dead_attempt_is_left(parts: Parts) -> None:
    """API killed while accepting, sent again, removed, erased: no file of the attempt that died is left."""
    key = orphan(parts)
    receipt = removed(parts, erase_now=True)
    assert with_grace(parts, HOUR).if_due() is None
    assert not erased(parts, receipt)
    assert parts.pictures.exists(key)
    slept: list[float] = []
    patient = replace(with_grace(parts, MINUTE), sleep=slept.append)
    patient()
    assert sum(slept) == MINUTE.total_seconds()
    assert not erased(parts, receipt)
    with_grace(parts, timedelta(0))()
    assert erased(parts, receipt)
    assert parts.files() | parts.pixels() == set()


def test_what_is_being_accepted_since_delays_nothing(parts: Parts) -> None:
    receipt = removed(parts)
    time_of_disk = now() + 3 * MINUTE
    key = orphan(parts)
    for path in parts.files() | parts.pixels():
        os.utime(path, (time_of_disk.timestamp(), time_of_disk.timestamp()))
    with_grace(parts, HOUR)()
    assert erased(parts, receipt)
    assert parts.pictures.exists(key)


def test_where_it_could_not_be_looked_nothing_is_said_to_be_erased(parts: Parts) -> None:
    receipt = removed(parts)

    def fail(_old: object, _since: object) -> int:
        raise Unavailable("as a test")

    tidy = RemoveOrphanFiles(
        parts.memory, parts.pictures, PeriodicTaskRuns(parts.database), timedelta(0), others=[fail]
    )
    replace(large(parts), remove_orphans=tidy)()
    assert not erased(parts, receipt)


def test_without_room_it_is_tried_once_an_hour(parts: Parts) -> None:
    removed(parts)
    calls: list[str] = []

    def fail(name: str) -> None:
        if name == "compact":
            calls.append(name)
            raise OutOfSpace("no room")

    full, due = large(parts, Hooked(parts.memory, fail)), now() + DAY
    for minutes, ends in ((0, True), (1, False), (59, False), (60, True)):
        moment = due + timedelta(minutes=minutes)
        if ends:
            with pytest.raises(OutOfSpace):
                full.if_due(moment)
        else:
            assert full.if_due(moment) is None
    assert calls == ["compact"] * 2
    assert replace(full, memory=parts.memory).if_due(due + 2 * HOUR) is not None
