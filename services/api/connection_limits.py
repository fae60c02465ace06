"""HTTP protocol with limits of time, memory and number of connections, before and after authentication."""

import time
from asyncio import TimerHandle, Transport
from collections import Counter

from starlette.responses import Response
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from visual_memory.schemas.errors import HeadTooLarge, MalformedRequest, Unavailable, VisualMemoryError
from visual_memory.services.api.error_responses import error_response
from visual_memory.services.infrastructure.events.event_listeners import EventListeners

HEAD_SECONDS = 15.0
"""Time for a client to send a request's head, since it connected or since the last answer, and to read a chunk of an
answer: a chunk is `services.api.admission_control.CHUNK_BYTES`, so it must read 4 KiB a second."""
HEAD_BYTES = 64 * 1024
"""Limit of bytes outside of bodies: request line, headers, trailers, chunk framing."""
MAX_HEADERS = 256
"""Each uses a hundred bytes more than were sent."""
PARSE_BYTES = 256
"""Bytes parsed at once: ten requests may start in them, each of which uses 4 KiB. Bodies of known length are parsed
whole."""
CHUNKED_PARSE_BYTES = 2048
"""The same within a body of unknown length, which is only read from authenticated callers."""
MAX_CONNECTIONS = 512
"""Connections that do not listen to events: half of the usual limit of open files; the other half is for processing
requests."""


class _Flow(FlowControl):
    """uvicorn's flow control, but reading is not resumed while unparsed data is buffered."""

    has_unparsed = False

    def resume_reading(self) -> None:
        if not self.has_unparsed:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits: by itself it has no timeouts, and buffers any number of headers and requests.

    A connection parses one request, and reads nothing more until it is answered. It is closed if the client takes too
    long to send a head or to read its answer. If there are too many connections, one is evicted that is not processing
    a request of an authenticated caller; if there is none, the new one is refused.
    """

    _timer: TimerHandle | None = None
    _current_cycle: RequestResponseCycle | None = None
    last_active = 0.0
    _unparsed: bytes | memoryview = b""
    _outside_bodies = 0
    _left_of_body = 0
    _fault: VisualMemoryError | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn itself declares it
        """Accept a connection; if there are too many, evict another one or refuse it."""
        super().connection_made(transport)
        self.last_active = time.monotonic()
        self.flow = self._flow = _Flow(transport)
        if len(self.connections) > MAX_CONNECTIONS + self._listeners() and not self._evict_one():
            self._refuse(Unavailable("too many connections: send it again later"))
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the request that is being answered: uvicorn notifies only the latest one."""
        self._stop_timer()
        self._unparsed = b""
        if self._current_cycle is not None and not self._current_cycle.response_complete:
            self._current_cycle.disconnected = True
            self._current_cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse new data; at most one read more than `HEAD_BYTES` is buffered."""
        self._unparsed = bytes(self._unparsed) + data if self._unparsed else data
        self._parse()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header or trailer, unless there are too many."""
        if len(self.headers) >= MAX_HEADERS:
            self._fault = HeadTooLarge(f"the request has more than {MAX_HEADERS} headers: send fewer")
            raise self._fault  # httptools turns it into a parser error
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the timer: from here on the app has its own timeouts."""
        self.last_active = time.monotonic()
        self._outside_bodies = 0
        self._left_of_body = int(dict(self.headers).get(b"content-length", 0))
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Do not count bodies here: the app counts them after authentication."""
        self._outside_bodies = 0
        self._left_of_body = max(0, self._left_of_body - len(body))
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Parse the next request, or start the timer for its head."""
        self.last_active = time.monotonic()
        super().on_response_complete()
        if self.cycle.response_complete:
            self._start_timer()
        self._parse()

    def pause_writing(self) -> None:
        """Start the timer: the client does not read its answer."""
        super().pause_writing()
        self._start_timer()

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._stop_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's message
        """Answer malformed HTTP in the form of every other error."""
        malformed = MalformedRequest("this is not an HTTP/1.1 request: check its line, headers, length and chunks")
        self._refuse(self._fault or malformed)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer the request and close: what follows is of another protocol."""
        self._unparsed = b""
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.transport.close()

    def _parse(self) -> None:
        """Parse buffered data, up to the end of a request that is not answered yet."""
        while self._unparsed and not self._is_busy() and not self.transport.is_closing():
            data = memoryview(self._unparsed)
            number = max(self._left_of_body, CHUNKED_PARSE_BYTES if self._is_in_body() else PARSE_BYTES)
            self._unparsed = data[number:] or b""
            self._outside_bodies += len(data[:number])
            super().data_received(data[:number])  # type: ignore[arg-type]  # httptools accepts any buffer
            if self._outside_bodies > HEAD_BYTES and not self.transport.is_closing():
                self._refuse(HeadTooLarge(f"the request's line and headers are over {HEAD_BYTES} bytes: send fewer"))
        if self.transport.is_closing():
            return
        had_unparsed, self._flow.has_unparsed = self._flow.has_unparsed, bool(self._unparsed)
        if self._unparsed:
            self.flow.pause_reading()
        elif had_unparsed and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def _is_in_body(self) -> bool:
        """Whether the current request has not arrived completely."""
        return self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete

    def _is_busy(self) -> bool:
        """Whether a complete request is not answered yet, or another one is queued behind it."""
        return bool(self.pipeline) or not (self.cycle is None or self.cycle.more_body or self.cycle.response_complete)

    def evict(self) -> None:
        """Close the connection at once."""
        self._stop_timer()
        self.connections.discard(self)
        self.transport.abort()

    def is_evictable(self) -> bool:
        """Whether it waits for the client, or processes no request of an authenticated caller."""
        current = self._current_cycle
        return self._timer is not None or current is None or "caller" not in current.scope["state"]

    def address(self) -> str:
        """The client's address."""
        return self.client[0] if self.client else ""

    def _listeners(self) -> int:
        """How many connections listen to events: they have a cap of their own."""
        listeners = self.app_state.get("event_listeners")
        return listeners.number if isinstance(listeners, EventListeners) else 0

    def _evict_one(self) -> bool:
        """Evict a connection: of the address with the most evictable ones, the one that was inactive longest."""
        others = [
            each
            for each in self.connections
            if isinstance(each, BoundedProtocol) and each is not self and each.is_evictable()
        ]
        if not others:
            return False
        addresses = Counter(each.address() for each in others)
        min(others, key=lambda each: (-addresses[each.address()], each.last_active)).evict()
        return True

    def _refuse(self, error: VisualMemoryError) -> None:
        refusal: Response = error_response(error)
        refusal.headers["Connection"] = "close"
        headers = b"".join(b"%b: %b\r\n" % header for header in refusal.raw_headers)
        self.transport.write(STATUS_LINE[error.status] + headers + b"\r\n" + bytes(refusal.body))
        self.transport.close()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
