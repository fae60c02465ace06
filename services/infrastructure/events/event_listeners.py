"""The listeners of this process: caps on their number, and one reader for each tenant that has any."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from visual_memory.schemas.errors import TooManyListeners
from visual_memory.services.infrastructure.events.event_entries import EventEntries
from visual_memory.services.infrastructure.events.listener import Listener
from visual_memory.services.infrastructure.events.tenant_events import ImagesOf, TenantEvents
from visual_memory.services.infrastructure.observability import prometheus_metrics

JOINS = 16
"""Listeners that read older events at once."""


class EventListeners:
    """The listeners of all tenants; used by one event loop.

    Args:
        redis: an asynchronous client of the broker's Redis that does not decode answers.
        entries: the streams.
        images_of: finds images; called in a thread.
        max_listeners: the most listeners of this process; one tenant may have three quarters of them.
        max_per_key: the most listeners of one API key in this process.
    """

    def __init__(
        self, redis: "Redis", entries: EventEntries, images_of: ImagesOf, max_listeners: int, max_per_key: int
    ) -> None:
        self._redis, self._entries, self._images_of = redis, entries, images_of
        self._max, self._max_per_key = max_listeners, max_per_key
        self._by_key = Counter[str]()
        self._tenants: dict[str, TenantEvents] = {}
        self._joins = asyncio.Semaphore(JOINS)
        self._is_closing = False

    @property
    def number(self) -> int:
        """How many listeners there are."""
        return self._by_key.total()

    @contextmanager
    def listening(
        self, tenant: str, key_id: str, types: Collection[str] = (), cursor: str | None = None
    ) -> Iterator[Listener]:
        """Listen to a tenant's events while the context is open.

        Args:
            tenant: the tenant.
            key_id: the API key that listens.
            types: the types of events to get; empty: all.
            cursor: begins after this event; None: with what happens from now on.

        Raises:
            TooManyListeners: the key, the tenant or the process has too many.
        """
        self._check_number(tenant, key_id)
        listener = Listener(types)
        self._by_key[key_id] += 1
        try:
            if self._is_closing:
                listener.end()
            events = self._tenants.get(tenant)
            if events is None:
                events = TenantEvents(tenant, self._redis, self._entries, self._images_of, self._joins)
                self._tenants[tenant] = events
            events.add(listener, cursor)
            prometheus_metrics.LISTENERS.set(self.number)
            yield listener
        finally:
            self._remove(tenant, key_id, listener)

    def end_all(self) -> None:
        """End all listeners: the process is about to end."""
        self._is_closing = True
        for events in self._tenants.values():
            for listener in events.listeners:
                listener.end()

    async def close(self) -> None:
        """Stop reading, and close the connections."""
        self.end_all()
        for events in self._tenants.values():
            events.close()
        await self._redis.aclose()

    def _check_number(self, tenant: str, key_id: str) -> None:
        held = self._tenants.get(tenant)
        if self._by_key[key_id] >= self._max_per_key:
            raise TooManyListeners(f"the key has {self._max_per_key} listeners: close one, then try again")
        if self.number >= self._max or (held is not None and len(held.listeners) >= self._max * 3 // 4):
            raise TooManyListeners("there are too many listeners: try again later")

    def _remove(self, tenant: str, key_id: str, listener: Listener) -> None:
        events = self._tenants[tenant]
        events.remove(listener)
        if not events.listeners:
            events.close()
            del self._tenants[tenant]
        self._by_key[key_id] -= 1
        if not self._by_key[key_id]:
            del self._by_key[key_id]
        prometheus_metrics.LISTENERS.set(self.number)
