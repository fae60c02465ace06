"""The HTTP protocol with bounds on what a connection may cost before anybody knows who it is, and after."""

from asyncio import TimerHandle, Transport
from math import inf

from starlette.responses import Response
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from schemas.errors import HeadTooLarge, MalformedRequest, Unavailable, VisualMemoryError
from services.api.errors import answer

HEAD_SECONDS = 15.0
"""How long a client may take to send the head of a request, from the connection or from the answer before."""
HEAD_BYTES = 64 * 1024
"""How much may come that is no part of a body: the request's line, headers, trailers, the frames of chunks."""
SLOWEST = 16 * 1024
"""Bytes of an answer that a client takes in a second at least."""
MOST_CONNECTIONS = 512
"""Half of the files that a process may usually have open; the other half is for what the requests need."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever and holds headers of any length.

    A client that lets us wait, for a head or for taking its answer, is cut off; a connection too many is refused before
    anything of it is read.
    """

    _waiting: TimerHandle | None = None
    _unread = 0
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn itself declares it
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(Unavailable("there are too many connections: send it again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it; uvicorn tells only the latest request of it, and not the one before that is being answered."""
        self._wait_no_more()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; at most one read more than `HEAD_BYTES` is held."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HeadTooLarge(f"the request's line and headers are over {HEAD_BYTES} bytes: send fewer"))

    def on_headers_complete(self) -> None:
        """From here on the app decides how long it waits."""
        self._unread = 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bodies are counted where it is known whose they are."""
        self._unread = 0
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Wait for the next head, unless there was one already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait()

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._wait_no_more()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Answer what is not HTTP in the form of every other error."""
        self._refuse(MalformedRequest("this is not a request of HTTP/1.1: check its line, headers, length and chunks"))

    def _refuse(self, error: VisualMemoryError) -> None:
        refusal: Response = answer(error)
        headers = b"".join(b"%b: %b\r\n" % header for header in [*refusal.raw_headers, (b"connection", b"close")])
        self.transport.write(STATUS_LINE[error.status] + headers + b"\r\n" + bytes(refusal.body))
        self.transport.close()

    def _wait(self, left: float = inf) -> None:
        self._wait_no_more()
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._overdue, left)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _overdue(self, left: float) -> None:
        """Cut the client off, unless it is taking an answer, and not too slowly."""
        untaken = self.transport.get_write_buffer_size()
        if 0 < untaken <= left - SLOWEST * HEAD_SECONDS:
            self._wait(untaken)
        else:
            self.transport.abort()
