"""Promise 2: whose clock differs from the database's accepts nothing."""

import pytest

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.records.clock_check import ClockCheck


@pytest.mark.parametrize("difference", [0.0, 0.9, -0.9])
def test_clocks_that_agree_are_fine(difference: float) -> None:
    ClockCheck(lambda: difference).check()


@pytest.mark.parametrize(("difference", "said"), [(1.5, "1.5 s ahead of"), (-33.0, "33.0 s behind")])
def test_a_clock_that_differs_is_told_with_what_to_do(difference: float, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        ClockCheck(lambda: difference).check()


def test_it_is_measured_anew_every_few_seconds_and_not_with_each_image() -> None:
    measured, uptime = [0.0, 5.0, 0.0], [100.0]
    asked: list[float] = []

    def difference() -> float:
        asked.append(uptime[0])
        return measured[len(asked) - 1]

    guard = ClockCheck(difference, lambda: uptime[0])
    for _ in range(3):
        guard.check()
    uptime[0] = 106.0
    for _ in range(2):
        with pytest.raises(Unavailable):
            guard.check()
    uptime[0] = 112.0
    guard.check()
    assert asked == [100.0, 106.0, 112.0]
