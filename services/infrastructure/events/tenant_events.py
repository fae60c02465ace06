"""Read a tenant's events from Redis, once for all of its listeners in this process.

Cursors are ids of entries. An entry that is still stored proves that no later one was deleted, because the oldest are
deleted first; if it is not, the listener gets ``resync``.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anyio.to_thread import run_sync
from redis.asyncio import Redis
from redis.exceptions import RedisError

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.schemas.event import EventType
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.events.event_entries import BEFORE_ALL, EventEntries, Fields, order
from visual_memory.services.infrastructure.events.listener import Delivery, Listener
from visual_memory.services.infrastructure.observability.json_logs import kind

BLOCK_SECONDS = 10.0
"""Longest wait for an event in one call of Redis."""
RETRY_SECONDS = 1.0
"""Seconds until a Redis that failed is tried again."""
PAGE = 100
"""Events that are read at once."""

ImagesOf = Callable[[str, Sequence[str]], Mapping[str, str]]
"""Finds the images of a tenant's points: their ids by the points' ids; without those that are removed."""
Entries = Sequence[tuple[bytes, Fields]]

log = logging.getLogger(__name__)


class TenantEvents:
    """The events of one tenant; used by one event loop.

    Args:
        tenant: the tenant.
        redis: an asynchronous client of the broker's Redis that does not decode answers.
        entries: the streams.
        images_of: finds images; called in a thread.
        joins: limits how many listeners read older events at once.
    """

    def __init__(
        self, tenant: str, redis: "Redis", entries: EventEntries, images_of: ImagesOf, joins: asyncio.Semaphore
    ) -> None:
        self._tenant, self._entries, self._images_of, self._joins = tenant, entries, images_of, joins
        self._redis: Any = redis
        self._stream = entries.stream(tenant)
        self._cursor = BEFORE_ALL
        self._started = asyncio.Event()
        self._current = set[Listener]()
        self._tasks: dict[Listener | None, asyncio.Task[None]] = {None: asyncio.create_task(self._read())}
        self.listeners = set[Listener]()

    def add(self, listener: Listener, cursor: str | None) -> None:
        """Give a listener all events after a cursor; None: all events from now on."""
        self.listeners.add(listener)
        self._tasks[listener] = asyncio.create_task(self._join(listener, cursor))

    def remove(self, listener: Listener) -> None:
        """Give a listener no more events."""
        listener.end()
        self.listeners.discard(listener)
        self._current.discard(listener)
        self._tasks.pop(listener).cancel()

    def close(self) -> None:
        """End all listeners, and stop reading."""
        for listener in [*self.listeners]:
            listener.end()
        for task in self._tasks.values():
            task.cancel()

    async def _read(self) -> None:
        """Read events and give them to the listeners that have all earlier ones."""
        while True:
            try:
                await self._start()
                while True:
                    await self._read_page()
            except (RedisError, OSError) as error:
                log.warning("events cannot be read for now: %s", kind(error))
            except Exception:
                log.exception("reading events failed; trying again")
            await asyncio.sleep(RETRY_SECONDS)

    async def _start(self) -> None:
        """Begin at the end of the stream; after a failure, where it was, if nothing was lost since."""
        last = await self._last()
        if not self._started.is_set():
            self._cursor = last
            self._started.set()
        elif not await self._is_stored(self._cursor):
            self._give([Delivery.resync(last)])

    async def _read_page(self) -> None:
        read = await self._redis.xread({self._stream: self._cursor}, count=PAGE, block=int(BLOCK_SECONDS * 1000))
        entries: Entries = read[0][1] if read else []
        if not entries:
            return
        is_behind = len(entries) == PAGE and self._cursor != BEFORE_ALL
        lost = is_behind and not await self._is_stored(self._cursor)
        deliveries = await self._deliveries(entries)
        self._give([Delivery.resync(deliveries[0].cursor), *deliveries] if lost else deliveries)

    def _give(self, deliveries: Sequence[Delivery]) -> None:
        self._cursor = deliveries[-1].cursor
        for listener in self._current:
            for each in deliveries:
                listener.offer(each)

    async def _join(self, listener: Listener, cursor: str | None) -> None:
        """Give a listener the events after its cursor, until it has all that were read; then it gets the others too."""
        await self._started.wait()
        listener.start_at(self._cursor if cursor is None else cursor)
        has_all = cursor is None
        while not has_all:
            try:
                has_all = await self._catch_up(listener)
            except (RedisError, OSError) as error:
                log.warning("older events cannot be read for now: %s", kind(error))
                await asyncio.sleep(RETRY_SECONDS)
        self._current.add(listener)

    async def _catch_up(self, listener: Listener) -> bool:
        """Give a listener the next page of older events; whether it then has all, or was told that some are lost."""
        async with self._joins:
            entries: Entries = await self._redis.xrange(self._stream, min=listener.cursor, count=PAGE)
            if not entries or entries[0][0].decode() != listener.cursor:
                listener.offer(Delivery.resync(self._cursor))
                return True
            deliveries = await self._deliveries(entries[1:])
        await listener.offer_all(deliveries)
        return not deliveries or order(listener.cursor) >= order(self._cursor)

    async def _deliveries(self, entries: Entries) -> list[Delivery]:
        """Render entries, with the ids of those images that exist."""
        decoded = [(entry_id.decode(), *self._decoded(fields)) for entry_id, fields in entries]
        points = [point for _, _, some in decoded for point in some]
        images = await self._images(points) if points else {}
        return [
            Delivery.of(cursor, event | _named([images[point] for point in some if point in images]))
            for cursor, event, some in decoded
        ]

    def _decoded(self, fields: Fields) -> tuple[dict[str, Any], Sequence[str]]:
        """Decode an entry; one that others have written becomes ``resync``."""
        try:
            return self._entries.decode(fields)
        except (ValueError, KeyError):
            return {"type": EventType.RESYNC, "at": now().isoformat()}, ()

    async def _images(self, points: Sequence[str]) -> Mapping[str, str]:
        """The images of points; none if the memory does not answer: then the events have numbers only."""
        try:
            return await run_sync(self._images_of, self._tenant, points)
        except VisualMemoryError as error:
            log.warning("events are delivered without the ids of their images: %s", kind(error))
            return {}

    async def _is_stored(self, cursor: str) -> bool:
        return bool(await self._redis.xrange(self._stream, min=cursor, max=cursor, count=1))

    async def _last(self) -> str:
        found = await self._redis.xrevrange(self._stream, count=1)
        return str(found[0][0].decode()) if found else BEFORE_ALL


def _named(image_ids: list[str]) -> dict[str, list[str]]:
    return {"image_ids": image_ids} if image_ids else {}
