"""Promise 2: what a removal covered never returns, whatever eight workers do at that moment."""

from tests.faults.conftest import Report
from tests.faults.removal_races import arena, forget_while_working

IMAGES, WORKERS, SEEDS = 3000, 8, 50


def test_a_removal_of_half_of_what_waits_leaves_no_survivor_and_takes_no_other(report: Report) -> None:
    with arena(WORKERS) as place:
        outcomes = [forget_while_working(place, IMAGES, seed) for seed in range(SEEDS)]
    survivors = sum(outcome.survivors for outcome in outcomes)
    missing = sum(outcome.missing for outcome in outcomes)
    assert (survivors, missing) == (0, 0)
    states = {state for outcome in outcomes for state, count in outcome.receipt.by_state.items() if count}
    assert len(states) > 1, "removals met images in more than one state"
    report(2, "a removal of half of 3,000 waiting pictures, 8 workers at work", SEEDS, missing, survivors)
