"""The guarantee of the intake: from XADD on each entry ends once, as stated, whatever is killed meanwhile."""

import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.faults.conftest import Report
from tests.faults.intake_rate import rates
from tests.faults.intake_trial import Intake, break_things, check, contents, intake_service, producers
from tests.stack import unique, until

ENTRIES = int(os.environ.pop("FAULT_ENTRIES", "20000"))
"""So many entries at least; more are sent while faults are still to come. 100,000 of them take a machine of two cores
about an hour."""
KILLS = 20
"""Of the reader and of the worker, in turn."""
RESTARTS = 6
"""Of the intake's Redis."""


@pytest.fixture(scope="module")
def intake() -> Iterator[Intake]:
    with intake_service(ENCODER__THREADS="1") as service:
        yield service


def test_pictures_are_accepted_as_fast_as_over_http(intake: Intake) -> None:
    http, stream = rates(intake)
    print(f"accepted a second: {http:.0f} over HTTP, {stream:.0f} over the stream")
    assert stream >= http


@pytest.mark.timeout(2 * 3600)
def test_every_entry_ends_once_whatever_is_killed(intake: Intake, report: Report) -> None:
    forgotten = unique("forgotten")
    made = producers(intake, contents(forgotten))
    faults = ["intake-reader", "worker"] * (KILLS // 2) + ["intake-redis"] * RESTARTS
    random.shuffle(faults)
    begun = time.monotonic()
    for producer in made:
        producer.start()
    try:
        break_things(intake.stack, faults[: len(faults) // 2])
        removed = intake.stack.http.post(
            "/v1/removals", json={"filter": {"subject": forgotten}, "block": True, "reason": "the trial"}
        )
        assert removed.status_code in {200, 202}, removed.text
        break_things(intake.stack, faults[len(faults) // 2 :])
        until(lambda: sum(len(each.sent) for each in made) >= ENTRIES, f"{ENTRIES} entries", 3600)
    finally:
        for producer in made:
            producer.stop()
    counts = check(intake, made, forgotten)
    seconds = time.monotonic() - begun
    sent = sum(len(each.sent) for each in made)
    print(f"{sent} sent in {seconds:.0f} s, {sum(each.again for each in made)} of them again:", dict(counts))
    fault = (
        f"{ENTRIES:,} entries of 8 producers; reader and worker kill -9 {KILLS} times, the intake's Redis {RESTARTS}"
    )
    report(1, fault, len(faults), 0, 0)
