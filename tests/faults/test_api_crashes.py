"""Promise 1: an API that dies while it accepts has taken a picture whole or not at all, and what it answered stays."""

import pytest

from tests.faults.conftest import Report
from tests.faults.service_kills import SENDINGS, kill_api
from tests.support.running_service import Stack


@pytest.mark.parametrize("sending", SENDINGS)
def test_an_api_killed_at_every_step_of_accepting_leaves_nothing_half_done(
    stack: Stack, report: Report, sending: str
) -> None:
    kills = kill_api(stack, sending)
    print(f"{sending}: {kills} steps")
    report(1, f"API kill -9 at every step of accepting ({sending})", kills, 0, 0)
