"""Publish events into capped streams of Redis, from a thread, so that no action waits for Redis or fails with it.

Events that could not be written are not kept: an event ``resync`` is written in their place once Redis answers. A
process that is killed may lose the events of its last moments, without one.
"""

import logging
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from visual_memory.schemas.event import EventType
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.events.event_entries import EventEntries
from visual_memory.services.infrastructure.observability.json_logs import kind

TIMEOUT = 1.0
"""Longest wait for Redis, in seconds."""
RETRY_SECONDS = 2.0
"""Seconds until a Redis that failed is tried again."""
CLOSE_SECONDS = 2.0
"""Longest time to write what waits when the process ends."""
MAX_WAITING = 10_000
"""Events that wait to be written."""
AT_ONCE = 100
KEPT_SECONDS = 3600
"""A stream is deleted when it had no event for this long."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """An event to be written."""

    tenant: str
    fields: dict[bytes, bytes]


class EventPublisher:
    """A `services.infrastructure.events.publish.Publish`; thread-safe.

    Args:
        redis: a client of the broker's Redis with `TIMEOUT`.
        entries: the streams.
        keep: about how many events of a tenant are stored; the oldest are deleted.
        retry_seconds: seconds until a Redis that failed is tried again.
    """

    def __init__(self, redis: "Redis", entries: EventEntries, keep: int, retry_seconds: float = RETRY_SECONDS) -> None:
        self._redis: Any = redis  # its types speak of asynchronous clients too
        self._entries, self._keep, self._retry_seconds = entries, keep, retry_seconds
        self._waiting = deque[_Waiting]()
        self._lost = set[str]()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __call__(
        self,
        tenant: str,
        event: EventType,
        image_ids: Collection[str] = (),
        /,
        *,
        count: int | None = None,
        **about: str | int | None,
    ) -> None:
        """Publish an event, as `Publish` describes."""
        number = count if count is not None else len(image_ids) or None
        said = {"type": event, "at": now().isoformat(), "count": number, **about}
        waiting = _Waiting(
            tenant,
            self._entries.encode(tenant, {name: each for name, each in said.items() if each is not None}, image_ids),
        )
        with self._changed:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(waiting)
            else:
                self._lost.add(tenant)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget_tenant(self, tenant: str) -> None:
        """Delete the events of a tenant that has ended; if Redis does not answer, they expire in `KEPT_SECONDS`."""
        try:
            self._redis.delete(self._entries.stream(tenant))
        except (RedisError, OSError) as error:
            log.warning("the events of a tenant that has ended expire within an hour: %s", kind(error))

    def close(self) -> None:
        """Write what waits, for `CLOSE_SECONDS` at most, and close the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
        self._redis.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not (self._waiting or self._closing):
                    self._changed.wait(self._retry_seconds if self._lost else None)
                if self._closing and not self._waiting:
                    return
                some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                lost, self._lost = self._lost, set()
            if (some or lost) and not self._write(some, lost):
                with self._changed:
                    self._lost |= lost | {each.tenant for each in some}
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, self._retry_seconds)

    def _write(self, some: Sequence[_Waiting], lost: Collection[str]) -> bool:
        """Write events, after a ``resync`` for each tenant that has lost some; False if Redis fails."""
        said = {"type": EventType.RESYNC, "at": now().isoformat()}
        every = [*(_Waiting(tenant, self._entries.encode(tenant, said, ())) for tenant in sorted(lost)), *some]
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for each in every:
                    pipe.xadd(self._entries.stream(each.tenant), each.fields, maxlen=self._keep, approximate=True)
                for tenant in {each.tenant for each in every}:
                    pipe.expire(self._entries.stream(tenant), KEPT_SECONDS)
                pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("events cannot be published; listeners will be told to read again: %s", kind(error))
            return False
        return True
