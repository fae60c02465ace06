"""The HTTP protocol with bounds on what a connection may cost before anybody knows who it is, and after."""

import time
from asyncio import TimerHandle, Transport
from collections import Counter

from starlette.responses import Response
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from visual_memory.schemas.errors import HeadTooLarge, MalformedRequest, Unavailable, VisualMemoryError
from visual_memory.services.api.error_responses import answer

HEAD_SECONDS = 15.0
"""How long a client may take to send a head, from the connection or the answer before, and to take a part of an answer.

A part is `services.api.admission_control.PART`, so it takes 4 KiB a second at least.
"""
HEAD_BYTES = 64 * 1024
"""How much may come that is no part of a body: the request's line, headers, trailers, the frames of chunks."""
MOST_HEADERS = 256
"""Each takes a hundred bytes more than were sent."""
PARSED_AT_ONCE = 256
"""Bytes in which some ten requests may begin, and each takes 4 KiB; bodies whose length is known are parsed whole."""
CHUNKS_AT_ONCE = 2048
"""The same while a body of unknown length comes, which only known callers are asked for."""
MOST_CONNECTIONS = 512
"""Half of the files that a process may usually have open; the other half is for what the requests need."""


class _Flow(FlowControl):
    """uvicorn's, which resumes reading whenever a request asks for more, though the next ones may wait unparsed."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever, and holds headers and requests of any number.

    One request of a connection is parsed, and nothing more is read than came with it, until it is answered. A client
    that lets us wait, for a head or for taking its answer, is cut off after a while. Where there are too many
    connections, one of those that work at no request of a known caller is cut off, and else the new one refused.
    """

    _waiting: TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    changed = 0.0
    _unparsed: bytes | memoryview = b""
    _outside_bodies = 0
    _left_of_body = 0
    _fault: VisualMemoryError | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn itself declares it
        """Take a connection, in place of one that lets us wait where there are too many; or refuse it."""
        super().connection_made(transport)
        self.changed = time.monotonic()
        self.flow = self._flow = _Flow(transport)
        if len(self.connections) > MOST_CONNECTIONS and not self._cut_one_off():
            self._refuse(Unavailable("there are too many connections: send it again later"))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it; uvicorn tells only the latest request of it, and not the one before that is being answered."""
        self._wait_no_more()
        self._unparsed = b""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; at most one read more than `HEAD_BYTES` is held."""
        self._unparsed = bytes(self._unparsed) + data if self._unparsed else data
        self._parse()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        if len(self.headers) >= MOST_HEADERS:
            self._fault = HeadTooLarge(f"the request has more than {MOST_HEADERS} headers: send fewer")
            raise self._fault  # httptools makes what is malformed of it
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here on the app decides how long it waits."""
        self.changed = time.monotonic()
        self._outside_bodies = 0
        self._left_of_body = int(dict(self.headers).get(b"content-length", 0))
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bodies are counted where it is known whose they are."""
        self._outside_bodies = 0
        self._left_of_body = max(0, self._left_of_body - len(body))
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait for its head."""
        self.changed = time.monotonic()
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait()
        self._parse()

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
        malformed = MalformedRequest("this is not a request of HTTP/1.1: check its line, headers, length and chunks")
        self._refuse(self._fault or malformed)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer the request, and then nothing more: what follows is of another protocol."""
        self._unparsed = b""
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.transport.close()

    def _parse(self) -> None:
        """Parse what came, up to the end of a request that is not answered."""
        while self._unparsed and not self._is_busy() and not self.transport.is_closing():
            data = memoryview(self._unparsed)
            number = max(self._left_of_body, CHUNKS_AT_ONCE if self._is_in_body() else PARSED_AT_ONCE)
            self._unparsed = data[number:] or b""
            self._outside_bodies += len(data[:number])
            super().data_received(data[:number])  # type: ignore[arg-type]  # httptools takes any bytes
            if self._outside_bodies > HEAD_BYTES and not self.transport.is_closing():
                self._refuse(HeadTooLarge(f"the request's line and headers are over {HEAD_BYTES} bytes: send fewer"))
        if self.transport.is_closing():
            return
        was_full, self._flow.full = self._flow.full, bool(self._unparsed)
        if self._unparsed:
            self.flow.pause_reading()
        elif was_full and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def _is_in_body(self) -> bool:
        """Whether the request that is worked on has not come whole."""
        return self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete

    def _is_busy(self) -> bool:
        """Whether a whole request is there that is not answered, or one that begins behind another."""
        return bool(self.pipeline) or not (self.cycle is None or self.cycle.more_body or self.cycle.response_complete)

    def cut_off(self) -> None:
        """Close the connection at once."""
        self._wait_no_more()
        self.connections.discard(self)
        self.transport.abort()

    def may_be_cut_off(self) -> bool:
        """Whether it lets us wait, or works at a request of nobody that we know."""
        current = self._answering
        return self._waiting is not None or current is None or "caller" not in current.scope["state"]

    def address(self) -> str:
        """Whose it is."""
        return self.client[0] if self.client else ""

    def _cut_one_off(self) -> bool:
        """Close one that may be: of the address that has the most of them, the one that did nothing longest."""
        others = [
            each
            for each in self.connections
            if isinstance(each, BoundedProtocol) and each is not self and each.may_be_cut_off()
        ]
        if not others:
            return False
        addresses = Counter(each.address() for each in others)
        min(others, key=lambda each: (-addresses[each.address()], each.changed)).cut_off()
        return True

    def _refuse(self, error: VisualMemoryError) -> None:
        refusal: Response = answer(error)
        headers = b"".join(b"%b: %b\r\n" % header for header in [*refusal.raw_headers, (b"connection", b"close")])
        self.transport.write(STATUS_LINE[error.status] + headers + b"\r\n" + bytes(refusal.body))
        self.transport.close()

    def _wait(self) -> None:
        self._wait_no_more()
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
