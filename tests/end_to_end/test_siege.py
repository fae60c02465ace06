"""Promise 7: hostile bodies and too many clients cost nobody else anything; tests/faults goes on for longer."""

from collections.abc import Iterator

import pytest

from tests.faults.hostile_bodies import CLOSED
from tests.faults.overload import MOST_GROWN, OVERLOADED, overload
from tests.faults.siege import besieged, check_sound, hang_up, send_mutations, send_the_table, stall
from tests.stack import Stack


@pytest.fixture(scope="module")
def siege() -> Iterator[Stack]:
    with besieged() as stack:
        yield stack


def test_every_hostile_request_is_answered_as_it_should_be(siege: Stack) -> None:
    assert send_the_table(siege) == {}
    check_sound(siege)


def test_no_mutated_request_makes_it_fail_inside(siege: Stack) -> None:
    answered = send_mutations(siege, 150, seed=0)
    assert {status for status in answered if status >= 500} == set()
    assert answered.keys() >= {CLOSED, 200, 400, 422}
    check_sound(siege)


def test_uploads_that_stall_are_ended_and_hold_up_no_other_tenant(siege: Stack) -> None:
    ended = stall(siege, 20)
    assert ended.keys() == {408, 503}
    check_sound(siege)


def test_uploads_that_break_off_leave_no_file(siege: Stack) -> None:
    hang_up(siege, 40, seed=0)
    check_sound(siege)


def test_ten_times_as_many_clients_as_can_be_served(siege: Stack) -> None:
    outcome = overload(siege, clients=40, seconds=8)
    assert {status for _, status in outcome.answers} <= OVERLOADED
    assert outcome.answers["classify", 200] > 0
    assert max(outcome.grown.values()) < MOST_GROWN
    siege.remembered(outcome.accepted)
    check_sound(siege)
