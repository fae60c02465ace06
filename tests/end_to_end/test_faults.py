"""Promise 1, each fault tried once: the tier of the fault tests (`make test-faults`) tries them many times."""

import time
from collections.abc import Iterator

import pytest

from tests.faults.support import Proxied, proxied, supervised
from tests.faults.trials import SENDINGS, break_connections, fill_redis, kill_api, kill_redis, kill_workers
from tests.shapes import picture
from tests.stack import SETTINGS, Stack, fields, suspended


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[Proxied]:
    with proxied() as service:
        yield service


def test_a_worker_killed_at_work_loses_nothing(victim: Stack) -> None:
    kill_workers(victim, [supervised(victim)], 1)


def test_a_redis_killed_and_wiped_loses_nothing(victim: Stack) -> None:
    kill_redis(victim, wiped=True)


def test_a_full_redis_loses_nothing(behind_proxy: Proxied) -> None:
    fill_redis(behind_proxy.stack, behind_proxy.redis)


@pytest.mark.parametrize("how", ["reset", "stall"])
def test_broken_connections_to_redis_lose_nothing(behind_proxy: Proxied, how: str) -> None:
    break_connections(behind_proxy.stack, behind_proxy.proxy, how)


@pytest.mark.parametrize("sending", SENDINGS)
def test_an_api_killed_while_it_accepts_leaves_nothing_half_done(stack: Stack, sending: str) -> None:
    assert kill_api(stack, sending, stride=11) >= 2


@pytest.mark.parametrize("route", ["images", "classify"])
def test_a_store_that_hangs_is_said_soon(victim: Stack, route: str) -> None:
    said = {"fields": fields(labels=["disc"])} if route == "images" else {}
    with suspended(victim.child("engine")):
        begun = time.monotonic()
        answer = victim.http.post(f"/v1/{route}", files=[("files", ("p", picture("disc")))], data=said)
        seconds = time.monotonic() - begun
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert f"did not answer within {SETTINGS['STORE__REQUEST_TIMEOUT']} s" in answer.json()["error"]["message"]
    assert seconds < float(SETTINGS["STORE__TIMEOUT"])
