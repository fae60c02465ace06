"""Wire the intake's Redis: its connection, its streams, and its private server for commands."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.retry import Retry

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.infrastructure.processes.private_redis import INTAKE_USER, intake_command, prepare_intake
from visual_memory.services.infrastructure.processes.supervisor import Child, stop
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.settings import Settings

TIMEOUT = 2.0
"""Seconds until a server that does not answer counts as unavailable."""
LONGEST_START = 60.0
"""Seconds within which a server must have read its log."""
POLL = 0.05


def intake_password(settings: Settings) -> str:
    """The password of the service's user of the intake's private Redis."""
    return load_secret(settings).key("intake").hex()


def intake_redis(settings: Settings, timeout: float = TIMEOUT) -> "Redis":
    """A client of the intake's Redis; it connects with the first call."""
    if settings.intake.url is not None:
        return Redis.from_url(settings.intake.url, **_options(timeout))
    return Redis(
        unix_socket_path=str(DataPaths(settings.data).intake_socket),
        username=INTAKE_USER,
        password=intake_password(settings),
        **_options(timeout),
    )


def wire_streams(settings: Settings, opened: ExitStack) -> Streams:
    """Wire the streams of all tenants; the context closes them."""
    streams = streams_of(settings)
    opened.callback(streams.close)
    return streams


def streams_of(settings: Settings) -> Streams:
    """The streams of all tenants."""
    return Streams(intake_redis(settings), StreamKeys(settings.intake.prefix), settings.intake.results)


def _options(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 1, (ConnectionLost,)),  # the server of an idle connection may have been restarted
    }


@contextmanager
def private_intake(settings: Settings) -> Iterator[None]:
    """Run the intake's private Redis while the context is open, if this machine has one; no service may be running.

    Raises:
        Unavailable: it does not start.
    """
    paths = DataPaths(settings.data)
    if settings.intake.url is not None or not paths.intake.exists():
        yield
        return
    prepare_intake(paths, intake_password(settings))
    paths.logs.mkdir(parents=True, exist_ok=True)
    child = Child("intake-redis", intake_command(paths, settings.intake), paths.logs / "intake-redis.log")
    child.start()
    try:
        _wait(settings, child)
        yield
    finally:
        stop([child])


def _wait(settings: Settings, child: Child) -> None:
    streams, waited = streams_of(settings), 0.0
    try:
        while True:
            try:
                streams.ping()
            except Unavailable:
                if waited > LONGEST_START or child.process is None or child.process.poll() is not None:
                    raise Unavailable(f"the intake's Redis does not start: see {child.log}") from None
                time.sleep(POLL)
                waited += POLL
            else:
                return
    finally:
        streams.close()
