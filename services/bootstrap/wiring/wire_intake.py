"""The intake's Redis, and what it holds."""

from contextlib import ExitStack
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.retry import Retry

from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.infrastructure.processes.private_redis import INTAKE_USER
from visual_memory.services.infrastructure.redis_streams.redis_streams import Streams
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.infrastructure.storage.data_paths import Places
from visual_memory.services.settings import Settings

TIMEOUT = 2.0
"""Seconds after which a server that does not answer is taken for one that is not there."""


def intake_password(settings: Settings) -> str:
    """With what this service logs in at the intake's private Redis."""
    return load_secret(settings).key("intake").hex()


def intake_redis(settings: Settings, timeout: float = TIMEOUT) -> "Redis":
    """The Redis of the intake; it connects with the first call."""
    if settings.intake.url is not None:
        return Redis.from_url(settings.intake.url, **_options(timeout))
    return Redis(
        unix_socket_path=str(Places(settings.data).intake_socket),
        username=INTAKE_USER,
        password=intake_password(settings),
        **_options(timeout),
    )


def wire_streams(settings: Settings, opened: ExitStack) -> Streams:
    """The streams of all tenants; closed with the context."""
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
        "retry": Retry(NoBackoff(), 1, (ConnectionLost,)),  # an idle connection may be of a Redis that was restarted
    }
