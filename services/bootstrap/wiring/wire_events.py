"""Wire the events of tenants: publishing them in every process, and listening to them in the API."""

import resource
from contextlib import ExitStack, suppress

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.retry import Retry

from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_task_queue import key_prefix
from visual_memory.services.infrastructure.events.event_entries import EventEntries
from visual_memory.services.infrastructure.events.event_listeners import EventListeners
from visual_memory.services.infrastructure.events.event_publisher import TIMEOUT, EventPublisher
from visual_memory.services.infrastructure.events.tenant_events import BLOCK_SECONDS, ImagesOf
from visual_memory.services.infrastructure.processes.private_redis import broker_url, client_url
from visual_memory.services.settings import Settings

OTHER_FILES = 1024
"""Open files of the API that are not connections of listeners."""


def publisher_of(settings: Settings) -> EventPublisher:
    """A publisher over the broker's Redis; it connects with the first event."""
    redis = Redis.from_url(
        client_url(broker_url(settings)),
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 1, (ConnectionLost,)),  # an idle connection may be of a Redis that was restarted
    )
    return EventPublisher(redis, _entries(settings), settings.broker.events)


def wire_publisher(settings: Settings, opened: ExitStack) -> EventPublisher:
    """Wire publishing events; the context writes what waits at its end."""
    publisher = publisher_of(settings)
    opened.callback(publisher.close)
    return publisher


def event_listeners_of(settings: Settings, images_of: ImagesOf) -> EventListeners:
    """The listeners of a process, for one event loop; raises the limit of open files to what they need."""
    redis = AsyncRedis.from_url(
        client_url(broker_url(settings)),
        socket_timeout=BLOCK_SECONDS + TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=AsyncRetry(NoBackoff(), 0),  # who reads tries again, and tells listeners
    )
    most = min(settings.api.max_listeners, _open_files(settings.api.max_listeners + OTHER_FILES) - OTHER_FILES)
    return EventListeners(redis, _entries(settings), images_of, max(0, most), settings.api.max_listeners_per_key)


def _entries(settings: Settings) -> EventEntries:
    return EventEntries(key_prefix(settings), load_secret(settings).key("events"))


def _open_files(wanted: int) -> int:
    """Raise this process's limit of open files, as far as the system lets it; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        with suppress(ValueError, OSError):
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
