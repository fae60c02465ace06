"""Read the body of a request within its limits of size, time, rate and memory, whatever its headers say."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import Message

from visual_memory.schemas.errors import TooLarge, TooSlow, VisualMemoryError
from visual_memory.services.api.admission_control import Admission

CHARGE_BYTES = 256 * 1024
"""Bytes that are charged to the key's rate limit at once."""
MIN_BYTES_PER_SECOND = 256 * 1024
"""Bytes after which a body gets one more second to arrive."""


class LimitedBody:
    """A request's `receive` that raises if the body exceeds a limit, and waits for a slot at the end of the body.

    Args:
        request: whose body it is.
        max_bytes: its longest body, in bytes.
        seconds: how long it may take, plus a second for every `MIN_BYTES_PER_SECOND` bytes.
        charge: charges bytes to the key's rate limit.
        admission: reserves the bytes and the slot.

    Attributes:
        fault: why the body could not be read to its end, if so.

    Raises:
        TooLarge: the headers declare a longer body.
    """

    def __init__(
        self,
        request: Request,
        max_bytes: int,
        seconds: float,
        charge: Callable[[int], Awaitable[None]],
        admission: Admission,
    ) -> None:
        self._receive = request.receive
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._charge = charge
        self._admission = admission
        self._started = asyncio.get_running_loop().time()
        self._received = self._uncharged = 0
        self._ended = False
        self.fault: VisualMemoryError | None = None
        declared = request.headers.get("content-length", "")
        self._check_length(int(declared) if declared.isdigit() else 0)

    async def __call__(self) -> Message:
        """Return the next message: a part of the body, and after its end whatever follows."""
        if self._ended:
            return await self._receive()
        try:
            return await self._next()
        except VisualMemoryError as error:
            self.fault = error
            raise

    async def _next(self) -> Message:
        message = await self._receive_in_time()
        number = len(message.get("body", b""))
        self._received += number
        self._uncharged += number
        self._check_length(self._received)
        self._admission.reserve_bytes(number)
        self._ended = not message.get("more_body", False)
        if self._ended or self._uncharged >= CHARGE_BYTES:
            charged, self._uncharged = self._uncharged, 0
            await self._charge(charged)
        if self._ended and message["type"] == "http.request":
            await self._admission.wait_for_slot()
        return message

    async def _receive_in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(self._started + self._seconds + self._received / MIN_BYTES_PER_SECOND):
                return await self._receive()
        except TimeoutError:
            raise TooSlow(f"the body did not arrive within {self._seconds:g} s: send less at once") from None

    def _check_length(self, length: int) -> None:
        if length > self._max_bytes:
            raise TooLarge(f"the request is over {self._max_bytes} bytes: send less at once")
