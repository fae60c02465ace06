"""The gate: what all requests of a process may take at once, and one tenant of that."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

PATIENCE = 5.0
"""Seconds that a request waits for its turn at most."""
PART = 64 * 1024
"""Bytes of an answer that are sent at once; longer ones count as held until the client has taken all but that."""


def share_of(number: int) -> int:
    """What one tenant may take of it: so much that it misses little alone, and never all."""
    return number * 3 // 4


class _Budget:
    """So many of something, of which each tenant may take three times as much as it leaves free.

    One alone may have three quarters of it, and of several each as much; there is always some for a newcomer.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._taken: Counter[str] = Counter()

    def take(self, tenant: str, number: int) -> bool:
        """Take so many, unless they are too many."""
        if self._taken[tenant] + number > 3 * (self._free - number):
            return False
        self._free -= number
        self._taken[tenant] += number
        return True

    def give(self, tenant: str, number: int) -> None:
        """Give so many back."""
        self._free += number
        self._taken[tenant] -= number
        if not self._taken[tenant]:
            del self._taken[tenant]


class Gate:
    """Bounds how many requests are there and are worked on at once, and how many bytes of them are held.

    Args:
        turns: how many requests are worked on; others wait until one ends, those of each tenant in turn.
        room: how many bytes of bodies and answers are held; what is beyond is refused.
        most: how many requests are there, in whatever state.
    """

    def __init__(self, turns: int, room: int, most: int) -> None:
        self.turns = FairQueue([None] * turns, share_of(turns))
        self.room = _Budget(room)
        self._visits = _Budget(most)

    @contextmanager
    def visit(self, tenant: str) -> Iterator["Visit"]:
        """A request of a tenant, from its body until its client has taken the answer.

        Raises:
            Unavailable: the tenant has too many.
        """
        if not self._visits.take(tenant, 1):
            raise Unavailable("too many requests of this tenant are there at once: send it again later")
        visit = Visit(self, tenant)
        try:
            yield visit
        finally:
            visit.end()
            self._visits.give(tenant, 1)


class Visit:
    """What one request takes, which its end gives back."""

    def __init__(self, gate: Gate, tenant: str) -> None:
        self._gate = gate
        self._tenant = tenant
        self._turn: Future[None] | None = None
        self._held = 0

    def hold(self, number: int) -> None:
        """Hold bytes more.

        Raises:
            Unavailable: there is no room for them.
        """
        if not self._gate.room.take(self._tenant, number):
            raise Unavailable("too much is being sent at once: send it again later")
        self._held += number

    async def begin(self) -> None:
        """Wait for its turn.

        Raises:
            Unavailable: it did not come in time.
        """
        self._turn = self._gate.turns.request(self._tenant)
        if self._turn.done():
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wrap_future(self._turn)
        except TimeoutError:
            raise Unavailable(f"too much is asked at once: no turn came within {PATIENCE:g} s") from None

    def end(self) -> None:
        """Give everything back; more may be taken afterwards."""
        if self._turn is not None:
            self._gate.turns.release(self._tenant, self._turn)
            self._turn = None
        self._gate.room.give(self._tenant, self._held)
        self._held = 0


class Answering:
    """ASGI middleware: sends answers as fast as they are taken; only then what ``request.state.visits`` holds ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_in_parts(message: Message) -> None:
            body = memoryview(message.get("body", b""))
            last = (len(body) - 1) // PART * PART
            for start in range(0, last, PART):  # the server waits before each that follows
                await send({"type": message["type"], "body": bytes(body[start : start + PART]), "more_body": True})
            await send({**message, "body": bytes(body[last:])} if last > 0 else message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with ExitStack() as visits:
            scope.setdefault("state", {})["visits"] = visits
            await self._app(scope, receive, send_in_parts)
