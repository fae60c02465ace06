"""Promise 7 at length: hostile bodies, uploads that stall and break off, and minutes of overload."""

from collections.abc import Iterator

import pytest

from tests.faults.attacks import besieged, check_sound, hang_up, send_mutations, stall
from tests.faults.conftest import Report
from tests.faults.hostile_requests import CLOSED
from tests.faults.overload import MOST_GROWN, OVERLOADED, overload
from tests.support.running_service import Stack, new_folder, running

MUTATIONS = 10_000
STALLED = 200
BROKEN_OFF = 1000
CLIENTS = 200
SECONDS = 180


@pytest.fixture(scope="module")
def siege() -> Iterator[Stack]:
    with besieged() as stack:
        yield stack


def test_mutated_requests(siege: Stack, report: Report) -> None:
    answered = send_mutations(siege, MUTATIONS, seed=1)
    assert {status for status in answered if status >= 500} == set()
    assert answered.keys() >= {CLOSED, 200, 400, 422}
    check_sound(siege)
    report(7, "mutated requests over plain sockets", MUTATIONS, 0, 0)


def test_uploads_that_stall(siege: Stack, report: Report) -> None:
    assert stall(siege, STALLED).keys() == {408, 503}
    check_sound(siege)
    report(7, "uploads that stall until there is no room", STALLED, 0, 0)


def test_uploads_that_break_off(siege: Stack, report: Report) -> None:
    hang_up(siege, BROKEN_OFF, seed=1)
    check_sound(siege)
    report(7, "uploads that break off in the middle", BROKEN_OFF, 0, 0)


def test_minutes_of_overload(report: Report) -> None:
    """With the limits as they are by default, and so many clients that not everybody can be served."""
    with new_folder() as folder, running(folder) as stack:
        outcome = overload(stack, CLIENTS, SECONDS)
        assert {status for _, status in outcome.answers} <= OVERLOADED
        assert outcome.answers["classify", 503] > 0
        assert max(outcome.grown.values()) < MOST_GROWN
        held = stack.settled(outcome.accepted)
        check_sound(stack)
    lost = set(outcome.accepted) - held.keys()
    assert lost == set()
    report(7, f"requests of {CLIENTS} clients at once for {SECONDS} s", outcome.answers.total(), len(lost), 0)
