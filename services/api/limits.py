"""No request grows past the limit: whatever its headers say, the bytes that arrive are counted."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import TooLarge
from services.api.errors import answer


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
