"""Answer with an endless stream of server-sent events, without a thread and without a request slot."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from visual_memory.services.infrastructure.events.listener import Listener

CHECK_SECONDS = 3.0
"""Seconds between two checks that the caller may still listen."""
HEARTBEAT_SECONDS = 15.0
"""Seconds without an event after which a comment is sent, so that nothing between takes the connection for dead."""
RECONNECT_MS = 2000


class EventStream(Response):
    """The events of a listener, until it ends, the client disconnects or the caller may not listen any more.

    Args:
        listener: ends with the request.
        may_listen: whether the caller may still listen; called every `CHECK_SECONDS`.
        seconds: ends the stream after this time; None: it has no end.
    """

    media_type = "text/event-stream"

    def __init__(
        self, listener: Listener, may_listen: Callable[[], Awaitable[bool]], seconds: float | None = None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._listener, self._may_listen = listener, may_listen
        self._seconds = math.inf if seconds is None else seconds

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        disconnected = asyncio.create_task(self._end_when_disconnected(receive))
        try:
            await send(start)
            await _send(send, f"retry: {RECONNECT_MS}\n\n".encode())
            await self._send_events(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            disconnected.cancel()

    async def _send_events(self, send: Send) -> None:
        clock, listener = asyncio.get_running_loop().time, self._listener
        sent = checked = clock()
        end, knows_cursor = checked + self._seconds, False
        while not listener.has_ended and (left := end - clock()) > 0:
            chunk = await listener.next(min(CHECK_SECONDS, left))
            if clock() - checked >= CHECK_SECONDS:
                checked = clock()
                if not await self._may_listen():
                    return
            is_due = clock() - sent >= HEARTBEAT_SECONDS or (listener.cursor and not knows_cursor)
            if chunk or is_due:
                await _send(send, chunk or _heartbeat(listener.cursor))
                sent, knows_cursor = clock(), bool(listener.cursor)

    async def _end_when_disconnected(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.end()


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _heartbeat(cursor: str) -> bytes:
    """A comment, and the cursor: that of a client that wants few types of events must not grow old."""
    return f": heartbeat\nid: {cursor}\n\n".encode() if cursor else b": heartbeat\n\n"
