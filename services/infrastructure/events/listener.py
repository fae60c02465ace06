"""One listener to a tenant's events: a bounded queue of rendered events."""

import asyncio
import json
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from visual_memory.schemas.event import EventType
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.events.event_entries import BEFORE_ALL, Order, order

MAX_WAITING = 256
"""Events that wait for one listener; if there are more, it gets ``resync`` instead of them."""
CHUNK_BYTES = 64 * 1024
"""Bytes of events that are sent at once."""


@dataclass(frozen=True)
class Delivery:
    """An event as it is sent, the same bytes to all listeners.

    Attributes:
        order: the sort key of its cursor.
    """

    cursor: str
    order: Order
    type: str
    data: bytes

    @classmethod
    def of(cls, cursor: str, event: Mapping[str, Any]) -> "Delivery":
        """Render an event in the form of server-sent events."""
        text = json.dumps({"cursor": cursor, **event}, separators=(",", ":"))
        data = f"id: {cursor}\nevent: {event['type']}\ndata: {text}\n\n".encode()
        return cls(cursor, order(cursor), event["type"], data)

    @classmethod
    def resync(cls, cursor: str) -> "Delivery":
        """Tell a listener that events up to a cursor may be missing."""
        return cls.of(cursor, {"type": EventType.RESYNC, "at": now().isoformat()})


class Listener:
    """A listener; used by one event loop.

    Args:
        types: the types of events that it gets; empty: all.

    Attributes:
        cursor: of the latest event that was offered, also of other types; empty until it is known.
        has_ended: whether it gets no more events.
    """

    def __init__(self, types: Collection[str] = ()) -> None:
        self._types = frozenset(types) and frozenset(types) | {EventType.RESYNC}
        self._waiting = deque[Delivery]()
        self._woken, self._drained = asyncio.Event(), asyncio.Event()
        self._order: Order = order(BEFORE_ALL)
        self.cursor = ""
        self.has_ended = False

    def start_at(self, cursor: str) -> None:
        """Set the cursor of what this listener knows."""
        self.cursor, self._order = cursor, order(cursor)
        self._woken.set()

    def offer(self, delivery: Delivery) -> None:
        """Add an event, unless the listener has it or wants no events of its type."""
        if delivery.order <= self._order and delivery.type != EventType.RESYNC:
            return
        self.cursor, self._order = delivery.cursor, delivery.order
        if self._types and delivery.type not in self._types:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            delivery = Delivery.resync(delivery.cursor)
        self._waiting.append(delivery)
        self._woken.set()

    async def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        """Add older events, and wait until they are taken."""
        for each in deliveries:
            self.offer(each)
        while self._waiting and not self.has_ended:
            self._drained.clear()
            await self._drained.wait()

    async def next(self, seconds: float) -> bytes:
        """What waits, `CHUNK_BYTES` and one event at most.

        Empty if nothing came within some seconds, or nothing but the first cursor.
        """
        if not self._waiting and not self.has_ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
        self._woken.clear()
        chunk = bytearray()
        while self._waiting and len(chunk) < CHUNK_BYTES:
            chunk += self._waiting.popleft().data
        if not self._waiting:
            self._drained.set()
        return bytes(chunk)

    def end(self) -> None:
        """Give it no more events."""
        self.has_ended = True
        self._woken.set()
        self._drained.set()
