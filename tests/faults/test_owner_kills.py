"""Promises 1 and 3: the engine's owner is killed in the middle of writing, flushing and compacting."""

from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.owner_kills import kill_again_and_again

KILLS = 25


@pytest.mark.parametrize("compacting", [True, False])
def test_the_collection_equals_the_model_after_every_kill(
    short_folder: Path, report: Report, *, compacting: bool
) -> None:
    outcome = kill_again_and_again(short_folder, KILLS, compacting=compacting)
    assert outcome.during_compaction >= (KILLS // 3 if compacting else 0), outcome
    assert outcome.writes > KILLS, outcome
    assert (outcome.lost, outcome.returned) == (0, 0), outcome
    fault = f"the engine's owner killed while it writes and flushes{', and compacts' * compacting}"
    report(1, fault, KILLS, outcome.lost, outcome.returned)
    report(3, fault, KILLS, outcome.lost, outcome.returned)
