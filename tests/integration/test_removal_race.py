"""Promise 2 in short: a removal while worker processes are at work; tests/faults has more of all."""

from tests.faults.forgetting import arena, forget_while_working


def test_a_removal_of_half_of_what_waits_leaves_no_survivor_and_takes_no_other() -> None:
    with arena(2) as place:
        outcomes = [forget_while_working(place, 300, seed) for seed in range(2)]
    assert [(outcome.survivors, outcome.missing) for outcome in outcomes] == [(0, 0)] * 2
