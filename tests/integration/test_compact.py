"""Promise 3: what was removed is erased once it has waited long enough; one receipt delays no other."""

from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from schemas.errors import OutOfSpace
from schemas.image import now
from schemas.removal import Event, Removal, RemovalRequest
from services.forgetting.compact import Compact
from services.forgetting.tidy import Tidy
from services.memory.memory import Memory
from services.runtime.schedule import Schedule
from tests.shapes import picture

from .support import Hooked, Parts, damage, failures

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def compact(parts: Parts, memory: object = None, beyond: str = "") -> Compact:
    tidy = Tidy(parts.memory, parts.pictures, parts.ledger, Schedule(parts.database), HOUR)
    return Compact(cast(Memory, memory or parts.memory), parts.removals, parts.removal_log, tidy, beyond, DAY)


def removed(parts: Parts, subject: str = "ann") -> Removal:
    parts.teach(picture("disc"), subject=subject)
    request = RemovalRequest.model_validate({"filter": {"subject": subject}, "reason": "asked to"})
    return parts.forget().carry_on(parts.tenant, parts.forget().request(parts.tenant, request, "a test").id)


def erased(parts: Parts, receipt: Removal) -> bool:
    return parts.removals.load(parts.tenant, receipt.id).removal.erasure is not None


def test_the_oldest_removal_says_when_it_is_due_in_whatever_process(parts: Parts) -> None:
    assert compact(parts).if_due(now() + 3 * DAY) is None
    first = removed(parts)
    assert compact(parts).if_due() is None
    second = removed(parts, "bob")
    assert compact(parts).if_due(now() + DAY - HOUR) is None
    assert not erased(parts, first)
    assert compact(parts).if_due(now() + DAY) is not None
    assert erased(parts, first)
    assert erased(parts, second)
    assert compact(parts).if_due(now() + 3 * DAY) is None
    assert [entry.event for entry in parts.removal_log.entries(parts.tenant)][-2:] == [Event.ERASED] * 2


@pytest.mark.parametrize(
    "mark", [True, {"since": (now() + 300 * DAY).isoformat()}, {"since": 3}, {"since": "soon"}, {}]
)
def test_a_mark_of_the_future_or_of_an_earlier_version_or_damaged_is_due(parts: Parts, mark: object) -> None:
    receipt = removed(parts)
    parts.ledger.put(f"unerased/{parts.tenant}/{receipt.id}", mark)
    assert compact(parts).if_due() is not None
    assert erased(parts, receipt)


def test_a_last_run_in_the_future_delays_nothing(parts: Parts) -> None:
    removed(parts)
    compact(parts).if_due(now() + 300 * DAY)
    receipt = removed(parts)
    assert compact(parts).if_due(now() + DAY) is not None
    assert erased(parts, receipt)


def test_one_receipt_that_cannot_be_sealed_delays_no_other_and_is_tried_with_the_next(parts: Parts) -> None:
    receipts = sorted((removed(parts, subject) for subject in ("ann", "bob", "eve")), key=lambda each: each.id)
    key = f"removals/{parts.tenant}/{receipts[1].id}"
    whole, before = parts.ledger.get(key), failures("erasure")
    damage(parts, key)
    for each in receipts:
        parts.ledger.put(f"unerased/{parts.tenant}/{each.id}", {"since": (now() - 2 * DAY).isoformat()})
    assert compact(parts).if_due() is not None
    assert failures("erasure") == before + 1
    parts.ledger.put(key, whole)
    assert [erased(parts, each) for each in receipts] == [True, False, True]
    assert compact(parts).if_due(now() + DAY - HOUR) is None, "it is due with the next, not every hour"
    assert compact(parts).if_due(now() + DAY) is not None
    assert erased(parts, receipts[1])


def test_without_room_it_is_tried_once_an_hour(parts: Parts) -> None:
    removed(parts)
    calls: list[str] = []

    def fail(name: str) -> None:
        if name == "compact":
            calls.append(name)
            raise OutOfSpace("no room")

    full, due = compact(parts, Hooked(parts.memory, fail)), now() + DAY
    for minutes, ends in ((0, True), (1, False), (59, False), (60, True)):
        moment = due + timedelta(minutes=minutes)
        if ends:
            with pytest.raises(OutOfSpace):
                full.if_due(moment)
        else:
            assert full.if_due(moment) is None
    assert calls == ["compact"] * 2
    assert replace(full, memory=parts.memory).if_due(due + 2 * HOUR) is not None
