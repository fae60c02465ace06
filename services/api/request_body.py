"""The body of a request, within its limits: whatever its headers say, what arrives is counted, and timed."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import Message

from visual_memory.schemas.errors import TooLarge, TooSlow, VisualMemoryError
from visual_memory.services.api.admission_control import Visit

CHARGED_AT_ONCE = 256 * 1024
SLOWEST = 256 * 1024
"""Bytes that give a body another second to arrive."""


class Body:
    """A request's `receive`, which raises where the body breaks a limit; at its end it waits for the request's turn.

    Args:
        request: whose body it is.
        most: its longest body, in bytes.
        seconds: how long it may take, and a second more for every `SLOWEST` bytes.
        charge: counts bytes on the key's account, some at a time.
        visit: counts them on the service's.

    Attributes:
        fault: why the body could not be read to its end, where that is so.

    Raises:
        TooLarge: so its headers say.
    """

    def __init__(
        self, request: Request, most: int, seconds: float, charge: Callable[[int], Awaitable[None]], visit: Visit
    ) -> None:
        self._receive = request.receive
        self._most = most
        self._seconds = seconds
        self._charge = charge
        self._visit = visit
        self._begun = asyncio.get_running_loop().time()
        self._arrived = self._uncharged = 0
        self._ended = False
        self.fault: VisualMemoryError | None = None
        declared = request.headers.get("content-length", "")
        self._check(int(declared) if declared.isdigit() else 0)

    async def __call__(self) -> Message:
        """The next part of the body; after its end, whatever comes."""
        if self._ended:
            return await self._receive()
        try:
            return await self._next()
        except VisualMemoryError as error:
            self.fault = error
            raise

    async def _next(self) -> Message:
        message = await self._in_time()
        number = len(message.get("body", b""))
        self._arrived += number
        self._uncharged += number
        self._check(self._arrived)
        self._visit.hold(number)
        self._ended = not message.get("more_body", False)
        if self._ended or self._uncharged >= CHARGED_AT_ONCE:
            charged, self._uncharged = self._uncharged, 0
            await self._charge(charged)
        if self._ended and message["type"] == "http.request":
            await self._visit.begin()
        return message

    async def _in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(self._begun + self._seconds + self._arrived / SLOWEST):
                return await self._receive()
        except TimeoutError:
            raise TooSlow(f"the body did not arrive within {self._seconds:g} s: send less at once") from None

    def _check(self, length: int) -> None:
        if length > self._most:
            raise TooLarge(f"the request is over {self._most} bytes: send less at once")
