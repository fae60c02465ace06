"""Admission control: bound what all requests of a process use at once, and what one tenant uses of that."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

SLOT_TIMEOUT = 5.0
"""Seconds that a request waits for a slot at most."""
CHUNK_BYTES = 64 * 1024
"""Bytes of an answer that are sent at once; a longer answer counts as in flight until only that much is left."""


def tenant_share(number: int) -> int:
    """Return how much of a number one tenant may use: most of it, and never all."""
    return number * 3 // 4


class _Budget:
    """An amount of which each tenant may use three times as much as it leaves free.

    One tenant alone may use three quarters, and several get equal parts; some is always free for a new tenant.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._used: Counter[str] = Counter()

    def reserve(self, tenant: str, number: int) -> bool:
        """Reserve a part; False if the tenant would use too much."""
        if self._used[tenant] + number > 3 * (self._free - number):
            return False
        self._free -= number
        self._used[tenant] += number
        return True

    def release(self, tenant: str, number: int) -> None:
        """Return a part."""
        self._free += number
        self._used[tenant] -= number
        if not self._used[tenant]:
            del self._used[tenant]


class AdmissionControl:
    """Limits the requests of this process, those that are processed at once, and their bytes in memory.

    Args:
        slots: how many requests are processed at once; others wait, with fair scheduling between tenants.
        max_bytes: how many bytes of bodies and answers are in memory; more are refused.
        max_requests: how many requests there are, in any state; more are refused.
    """

    def __init__(self, slots: int, max_bytes: int, max_requests: int) -> None:
        self.slots = FairQueue([None] * slots, tenant_share(slots))
        self.bytes_in_flight = _Budget(max_bytes)
        self._requests = _Budget(max_requests)

    @contextmanager
    def admit(self, tenant: str) -> Iterator["Admission"]:
        """Admit a request of a tenant, until its client has received the answer.

        Raises:
            Unavailable: the tenant has too many.
        """
        if not self._requests.reserve(tenant, 1):
            raise Unavailable("this tenant has too many requests at once: send it again later")
        admission = Admission(self, tenant)
        try:
            yield admission
        finally:
            admission.release()
            self._requests.release(tenant, 1)


class Admission:
    """What one request has reserved."""

    def __init__(self, control: AdmissionControl, tenant: str) -> None:
        self._control = control
        self._tenant = tenant
        self._slot: Future[None] | None = None
        self._bytes = 0

    def reserve_bytes(self, number: int) -> None:
        """Reserve more bytes.

        Raises:
            Unavailable: the limit is reached.
        """
        if not self._control.bytes_in_flight.reserve(self._tenant, number):
            raise Unavailable("too many bytes are in flight: send it again later")
        self._bytes += number

    async def wait_for_slot(self) -> None:
        """Wait for a slot, in which the request is processed.

        Raises:
            Unavailable: none was free in time.
        """
        self._slot = self._control.slots.request(self._tenant)
        if self._slot.done():
            return
        try:
            async with asyncio.timeout(SLOT_TIMEOUT):
                await asyncio.wrap_future(self._slot)
        except TimeoutError:
            raise Unavailable(f"the service was busy for {SLOT_TIMEOUT:g} s: send it again later") from None

    def release(self) -> None:
        """Release the slot and the bytes; more may be reserved afterwards."""
        if self._slot is not None:
            self._control.slots.release(self._tenant, self._slot)
            self._slot = None
        self._control.bytes_in_flight.release(self._tenant, self._bytes)
        self._bytes = 0


class ChunkedResponses:
    """ASGI middleware that sends answers in chunks, as fast as the client reads, and then releases the admissions.

    Admissions are context managers in ``request.state.admissions``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_in_chunks(message: Message) -> None:
            body = memoryview(message.get("body", b""))
            last = (len(body) - 1) // CHUNK_BYTES * CHUNK_BYTES
            for start in range(0, last, CHUNK_BYTES):  # uvicorn waits for the client before each following chunk
                chunk = bytes(body[start : start + CHUNK_BYTES])
                await send({"type": message["type"], "body": chunk, "more_body": True})
            await send({**message, "body": bytes(body[last:])} if last > 0 else message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with ExitStack() as admissions:
            scope.setdefault("state", {})["admissions"] = admissions
            await self._app(scope, receive, send_in_chunks)
