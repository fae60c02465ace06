"""No request grows past the limits: whatever its headers say, the bytes that arrive are counted."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import TooLarge, VisualMemoryError
from services.api.errors import answer

CHARGED_AT_ONCE = 256 * 1024


class BodyLimit:
    """ASGI middleware that answers 413 where a body is longer than `most` bytes, and stops reading it."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = TooLarge(f"the request is over {self._most} bytes: send fewer pictures at once")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            await answer(too_large)(scope, receive, send)
            return
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self._most:
                raise too_large
            return message

        await self._app(scope, counted, send)


class Meter:
    """A request's `receive` that charges for the bytes as they arrive, some at a time.

    Attributes:
        fault: why the body could not be read to its end, where that is so.
    """

    def __init__(self, receive: Receive, charge: Callable[[int], Awaitable[None]]) -> None:
        self._receive = receive
        self._charge = charge
        self._uncharged = 0
        self.fault: VisualMemoryError | None = None

    async def __call__(self) -> Message:
        """The next part of the body."""
        try:
            message = await self._receive()
            self._uncharged += len(message.get("body", b""))
            if self._uncharged >= CHARGED_AT_ONCE or not message.get("more_body", False):
                charged, self._uncharged = self._uncharged, 0
                await self._charge(charged)
        except VisualMemoryError as error:
            self.fault = error
            raise
        return message
