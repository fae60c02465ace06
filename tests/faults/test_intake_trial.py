"""The guarantee of the intake: from XADD on each entry ends once, as stated, whatever is killed meanwhile."""

import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.faults.conftest import Report
from tests.faults.intake_trial import (
    REDIS,
    Fault,
    Intake,
    Moments,
    break_things,
    check,
    contents,
    intake_service,
    producers,
)
from tests.support.running_service import unique, until

ENTRIES = int(os.environ.pop("FAULT_ENTRIES", "20000"))
"""So many entries at least."""
SHARE = float(os.environ.pop("FAULT_SHARE", "1"))
"""Of the faults."""
FAULTS = {
    Fault("worker"): 20,
    Fault("intake-reader"): 6,
    Fault(REDIS): 3,
    Fault(REDIS, kills=False): 3,
}


@pytest.fixture(scope="module")
def intake() -> Iterator[Intake]:
    with intake_service(ENCODER__THREADS="1") as service:
        yield service


@pytest.mark.timeout(2 * 3600)
def test_every_entry_ends_once_whatever_is_killed(intake: Intake, report: Report) -> None:
    found = Moments(unique("forgotten"))
    made = producers(intake, contents(found.forgotten))
    faults = [fault for fault, times in FAULTS.items() for _ in range(max(1, round(SHARE * times)))]
    random.shuffle(faults)
    half = len(faults) // 2

    def sent() -> int:
        assert [each.failure for each in made if each.failure] == []
        return sum(len(each.sent) for each in made)

    begun = time.monotonic()
    for producer in made:
        producer.start()
    try:
        break_things(intake, faults[:half], sent, ENTRIES // 2, found)
        asked = {"filter": {"subject": found.forgotten}, "block": True, "reason": "the trial"}
        removed = intake.stack.http.post("/v1/removals", json=asked).json()
        found.removed = time.time()
        break_things(intake, faults[half:], sent, ENTRIES // 2, found)
        until(lambda: sent() >= ENTRIES, f"{ENTRIES} entries", 3600)
    finally:
        for producer in made:
            producer.stop()
    print(f"sent after {time.monotonic() - begun:.0f} s")
    receipt = until(lambda: intake.receipt(removed["id"]), "the removal to be done", 600)
    print(f"removed after {time.monotonic() - begun:.0f} s")
    counts = check(intake, made, found)
    seconds = time.monotonic() - begun
    print(f"{sent()} sent in {seconds:.0f} s, {sum(each.again for each in made)} of them again:", dict(counts))
    print(f"the removal took {receipt['images']} images and {receipt['queued']} entries")
    fault = f"{ENTRIES:,} entries of 8 producers; worker killed 20 times, reader and intake's Redis ended 6 times each"
    report(1, fault, len(faults), 0, 0)
