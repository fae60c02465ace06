"""Promises 1 and 3: the engine's owner is killed in the middle of writing, flushing and compacting."""

from pathlib import Path

from tests.faults.conftest import Report
from tests.faults.engine import kill_again_and_again

KILLS = 25


def test_the_collection_equals_the_model_after_every_kill(short_folder: Path, report: Report) -> None:
    outcome = kill_again_and_again(short_folder, KILLS)
    assert outcome.during_compaction >= KILLS // 3, outcome
    assert outcome.writes > KILLS, outcome
    assert (outcome.lost, outcome.returned) == (0, 0), outcome
    fault = "the engine's owner killed while it writes, flushes and compacts"
    report(1, fault, KILLS, outcome.lost, outcome.returned)
    report(3, fault, KILLS, outcome.lost, outcome.returned)
