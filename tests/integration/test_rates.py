"""Promise 7: a key's limits hold over all processes, and a Redis that hangs or is gone delays nobody."""

import asyncio
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from schemas.errors import RateLimited
from schemas.image import now
from schemas.key import Key, Scope
from services.access.rates import PAUSE, Rates
from services.runtime.places import Places
from services.runtime.redis_server import limits_url, redis_command, redis_url
from tests.stack import suspended, until


class Server:
    """A real Redis on a socket, of one test."""

    def __init__(self, folder: Path) -> None:
        self.places = Places(folder)
        self.url = limits_url(redis_url(self.places))
        self.client = redis.Redis(unix_socket_path=str(self.places.redis_socket))
        self.process = subprocess.Popen(redis_command(self.places), stdout=subprocess.DEVNULL)
        until(self.answers, "Redis' answer")  # the socket is there a moment before anybody listens

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def counted(self) -> int:
        """What is counted there, of every key."""
        keys: Any = self.client.keys("LIMITS*")
        counts: Any = self.client.mget(keys)
        return sum(map(int, counts))

    def connections(self) -> int:
        """How many connections it was asked for."""
        stats: Any = self.client.info("stats")
        return int(stats["total_connections_received"])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(short_folder: Path) -> Iterator[Server]:
    started = Server(short_folder)
    yield started
    started.client.close()
    started.stop()


def key(**limits: int) -> Key:
    named = {"name": "camera", "tenant": "north", "id": "0123456789ab"}
    return Key.model_validate({**named, "scopes": [Scope.CLASSIFY], "created_at": now(), **limits})


async def taken(rates: Rates, limited: Key, tries: int) -> int:
    """How many requests of so many were let through."""
    through = 0
    for _ in range(tries):
        try:
            await rates.take_request(limited)
            through += 1
        except RateLimited:
            continue
    return through


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def test_processes_share_one_count(server: Server) -> None:
    async def scene() -> None:
        first, second, limited = Rates(server.url), Rates(server.url), key(requests_per_minute=10)
        assert await taken(first, limited, 6) == 6
        assert await taken(second, limited, 6) == 4
        assert await taken(first, limited, 1) == 0
        await close(first, second)

    run(scene)
    assert server.counted() == 13


def test_bytes_are_counted_by_their_number(server: Server) -> None:
    async def scene() -> None:
        rates, limited = Rates(server.url), key(bytes_per_minute=1000)
        await rates.take_bytes(limited, 1000)
        await rates.take_bytes(limited, 0)
        with pytest.raises(RateLimited, match="1000 bytes a minute"):
            await rates.take_bytes(limited, 1)
        await rates.take_request(limited)
        await close(rates)

    run(scene)


def test_a_key_without_limits_asks_nobody(server: Server) -> None:
    before = server.connections()

    async def scene() -> None:
        rates = Rates(server.url)
        for _ in range(50):
            await rates.take_request(key())
            await rates.take_bytes(key(), 10**9)
        await close(rates)

    run(scene)
    assert server.connections() == before


def test_a_redis_that_hangs_is_left_alone_for_a_while(server: Server) -> None:
    time = 100.0

    async def scene() -> None:
        nonlocal time
        rates, limited = Rates(server.url, lambda: time), key(requests_per_minute=10)
        assert await taken(rates, limited, 4) == 4
        with suspended(psutil.Process(server.process.pid)):
            assert await taken(rates, limited, 200) == 10, "this process counts by itself, from nothing"
        before = server.counted()
        assert await taken(rates, limited, 1) == 0
        assert server.counted() == before, "it is not asked again at once"
        time += PAUSE
        assert await taken(rates, limited, 10) == 10 - before
        await close(rates)

    run(scene)


def test_a_redis_that_is_gone_is_done_without(server: Server) -> None:
    async def scene() -> None:
        rates, limited = Rates(server.url), key(requests_per_minute=5)
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


async def close(*every: Rates) -> None:
    for rates in every:
        await rates._shared.storage.bridge.get_connection().aclose()  # type: ignore[attr-defined]
