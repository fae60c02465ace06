"""Promise 7: a key's limits hold over all processes, and a Redis that hangs or is gone delays nobody."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.broker_redis import Broker, broker
from tests.support.running_service import suspended
from visual_memory.schemas.api_key import Key, Scope
from visual_memory.schemas.errors import RateLimited
from visual_memory.schemas.moments import now
from visual_memory.services.access.rate_limits import RETRY_PAUSE, RateLimits
from visual_memory.services.infrastructure.processes.private_redis import limits_url

PREFIX = "one-service:"


def counted(server: Broker) -> int:
    """What is counted there, of every key."""
    keys: Any = [key for key in server.key_names() if key.startswith(f"{PREFIX}limits:")]
    counts: Any = server.client.mget(keys)
    return sum(map(int, counts))


@pytest.fixture
def server(short_folder: Path) -> Iterator[Broker]:
    with broker(short_folder) as started:
        yield started


def key(**limits: int) -> Key:
    named = {"name": "camera", "tenant": "north", "id": "0123456789ab"}
    return Key.model_validate({**named, "scopes": [Scope.CLASSIFY], "created_at": now(), **limits})


async def taken(rates: RateLimits, limited: Key, tries: int) -> int:
    """How many requests of so many were let through."""
    counted = [await rates.count_request(limited) for _ in range(tries)]
    return sum(quota is not None and not quota.exceeded for quota in counted)


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def test_processes_share_one_count(server: Broker) -> None:
    async def scene() -> None:
        first, second, limited = (
            RateLimits(server.limits_url, PREFIX),
            RateLimits(server.limits_url, PREFIX),
            key(requests_per_minute=10),
        )
        assert await taken(first, limited, 6) == 6
        assert await taken(second, limited, 6) == 4
        assert await taken(first, limited, 1) == 0
        await close(first, second)

    run(scene)
    assert counted(server) == 13


def test_services_on_one_redis_count_for_themselves(server: Broker) -> None:
    async def scene() -> None:
        ours, theirs = RateLimits(server.limits_url, PREFIX), RateLimits(server.limits_url, "another:")
        limited = key(requests_per_minute=10)
        assert await taken(ours, limited, 10) == 10
        assert await taken(theirs, limited, 10) == 10
        await close(ours, theirs)

    run(scene)
    assert {name.partition(":")[0] for name in server.key_names()} == {"one-service", "another"}


def test_bytes_are_counted_by_their_number(server: Broker) -> None:
    async def scene() -> None:
        rates, limited = RateLimits(server.limits_url, PREFIX), key(bytes_per_minute=1000)
        most, over = await rates.count_bytes(limited, 1000), await rates.count_bytes(limited, 1)
        assert most is not None
        assert over is not None
        assert (most.name, most.limit, most.window, most.remaining) == ("bytes", 1000, 60, 0)
        assert 1 <= most.reset <= 60
        most.check()
        with pytest.raises(RateLimited, match="1000 bytes a minute"):
            over.check()
        assert await rates.count_bytes(limited, 0) is None
        assert await rates.count_request(limited) is None
        await close(rates)

    run(scene)


def test_a_key_without_limits_asks_nobody(server: Broker) -> None:
    before = server.connections()

    async def scene() -> None:
        rates = RateLimits(server.limits_url, PREFIX)
        for _ in range(50):
            await rates.count_request(key())
            await rates.count_bytes(key(), 10**9)
        await close(rates)

    run(scene)
    assert server.connections() == before


def test_a_redis_that_hangs_is_left_alone_for_a_while(server: Broker) -> None:
    time = 100.0

    async def scene() -> None:
        nonlocal time
        rates, limited = RateLimits(server.limits_url, PREFIX, lambda: time), key(requests_per_minute=10)
        assert await taken(rates, limited, 4) == 4
        with suspended(psutil.Process(server.process.pid)):
            assert await taken(rates, limited, 200) == 10, "this process counts by itself, from nothing"
        before = counted(server)
        assert await taken(rates, limited, 1) == 0
        assert counted(server) == before, "it is not asked again at once"
        time += RETRY_PAUSE
        assert await taken(rates, limited, 10) == 10 - before
        await close(rates)

    run(scene)


def test_a_redis_that_is_gone_is_done_without(server: Broker) -> None:
    async def scene() -> None:
        rates, limited = RateLimits(server.limits_url, PREFIX), key(requests_per_minute=5)
        server.stop()
        assert await taken(rates, limited, 9) == 5
        await close(rates)

    run(scene)


@pytest.mark.parametrize(
    ("celery", "limits"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://user:word@host/3", "rediss://user:word@host/3"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "redis+unix:///run/redis.sock?db=2"),
    ],
)
def test_the_broker_s_name_in_the_other_library(celery: str, limits: str) -> None:
    assert limits_url(celery) == limits


async def close(*every: RateLimits) -> None:
    for rates in every:
        await rates._shared.storage.bridge.get_connection().aclose()  # type: ignore[attr-defined]
