"""A real Redis on a socket, of one test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.running_service import until
from visual_memory.services.infrastructure.processes.private_redis import limits_url, redis_command, redis_url
from visual_memory.services.infrastructure.storage.data_paths import DataPaths


class Broker:
    """It, and a client of it.

    Attributes:
        url: as Celery names it.
        limits_url: as the library of the limits does.
        port: of 127.0.0.1; 0: it is reached by its socket alone.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        places = DataPaths(folder)
        places.redis_socket.parent.mkdir(parents=True, exist_ok=True)
        self.url = redis_url(places)
        self.limits_url = limits_url(self.url)
        self.client: Any = redis.Redis(unix_socket_path=str(places.redis_socket))
        self.port = port
        self.process = subprocess.Popen([*redis_command(places), "--port", str(port)], stdout=subprocess.DEVNULL)
        until(self.answers, "Redis' answer")  # the socket is there a moment before anybody listens

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def key_names(self) -> list[str]:
        """The names of all keys."""
        keys: Any = self.client.keys()
        return sorted(key.decode() for key in keys)

    def messages(self, queue: str) -> list[bytes]:
        """What lies in a queue, the next one first."""
        messages: Any = self.client.lrange(queue, 0, -1)
        return list(reversed(messages))

    def connections(self) -> int:
        """How many connections it was asked for."""
        stats: Any = self.client.info("stats")
        return int(stats["total_connections_received"])

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def broker(folder: Path, port: int = 0) -> Iterator[Broker]:
    """One that is stopped at the end."""
    started = Broker(folder, port)
    try:
        yield started
    finally:
        started.client.close()
        started.stop()
