"""Promise 1: Redis only carries messages; whatever becomes of it, acceptance goes on and nothing accepted is lost."""

from collections.abc import Iterator, Sequence

import pytest

from tests.faults.conftest import Report
from tests.faults.service_kills import break_connections, fill_redis, kill_redis
from tests.faults.streaming_clients import Proxied, proxied
from tests.support.running_service import Stack


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[Proxied]:
    with proxied() as service:
        yield service


@pytest.mark.parametrize(("trials", "wiped"), [(6, False), (1, True)], ids=["killed", "wiped"])
def test_a_killed_redis_loses_nothing(victim: Stack, report: Report, trials: int, wiped: bool) -> None:
    show([kill_redis(victim, wiped=wiped) for _ in range(trials)])
    how = "kill -9 and its files wiped" if wiped else "kill -9"
    report(1, f"Redis {how}, eight clients streaming", trials, 0, 0)


def test_a_full_redis_loses_nothing(behind_proxy: Proxied, report: Report) -> None:
    show([fill_redis(behind_proxy.stack, behind_proxy.redis)])
    report(1, "Redis at maxmemory with noeviction, eight clients streaming", 1, 0, 0)


@pytest.mark.parametrize("how", ["reset", "stall"])
def test_broken_connections_to_redis_lose_nothing(behind_proxy: Proxied, report: Report, how: str) -> None:
    trials = 3
    show([break_connections(behind_proxy.stack, behind_proxy.proxy, how) for _ in range(trials)])
    report(1, f"connections to Redis {how}, eight clients streaming", trials, 0, 0)


def show(seconds: Sequence[float]) -> None:
    print("recovered within", ", ".join(f"{each:.1f}" for each in seconds), "s")
