"""Promise 7: whoever lets a connection wait, sends endless heads or opens too many is cut off, and nobody else."""

import contextlib
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.support.running_service import until
from visual_memory.services.api import connection_limits
from visual_memory.services.api.admission_control import ChunkedResponses
from visual_memory.services.api.connection_limits import HEAD_BYTES, MAX_HEADERS, BoundedProtocol
from visual_memory.services.cli.temporary_service import free_port

LARGE = 20_000_000
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


released = threading.Event()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a body with its length, and /large at length; /known and /unknown once they are released."""
    if scope["path"] == "/known":
        scope["state"]["caller"] = "somebody"
    if scope["path"] in {"/known", "/unknown"}:
        await run_in_threadpool(released.wait, 60)
    with contextlib.suppress(ClientDisconnect):
        body = await Request(scope, receive).body()
        await Response(b"x" * LARGE if scope["path"] == "/large" else b"%d" % len(body))(scope, receive, send)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[uvicorn.Server]:
    """A server whose patience no test waits for; nothing that a test does to it may be an error of its own."""
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 600)
    released.clear()
    config = uvicorn.Config(
        ChunkedResponses(app), port=free_port(), http=BoundedProtocol, lifespan="off", log_config=None
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: running.started, "the server to start")
    yield running
    running.should_exit = True
    thread.join()
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture
def _impatient(server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patience is short."""
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 0.5)


def protocol(server: uvicorn.Server) -> BoundedProtocol:
    """Of the one connection that there is."""
    found = until(lambda: [*server.server_state.connections], "a connection")
    assert len(found) == 1
    assert isinstance(found[0], BoundedProtocol)
    return found[0]


@contextlib.contextmanager
def connected(server: uvicorn.Server, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    given = ("127.0.0.1", server.config.port)
    with socket.create_connection(given, timeout=30, source_address=(address, 0)) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    came = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            came += more
    return came


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send byte by byte until the server has closed the connection."""
    with pytest.raises(ConnectionError):  # noqa: PT012 - which byte is the last is not known
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.01)


def test_what_is_not_http_is_told_so_in_the_form_of_all_errors(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in answer
    assert b'"code":"malformed_request"' in answer
    assert re.search(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n.*urn:request:\1", answer, re.DOTALL)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    "begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: "], ids=["nothing", "a line", "a header"]
)
def test_a_head_that_does_not_come_is_not_waited_for(server: uvicorn.Server, begun: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(begun)
        assert everything(connection) == b""


@pytest.mark.usefixtures("_impatient")
def test_a_head_that_comes_byte_by_byte_is_not_waited_for(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        trickle(connection, GET[:-1] * 100)


def test_a_body_that_nobody_reads_any_more_is_not_waited_for(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer came before the body's end, as a refusal does."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"no", 413)(scope, receive, send)

    server.config.loaded_app = refuse
    with connected(server) as connection:
        protocol(server)
        monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 0.5)  # from the answer on
        connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")
        trickle(connection, b"x" * 3000)


@pytest.mark.parametrize(
    "endless", [b"GET /" + b"a" * 10**7, b"GET / HTTP/1.1\r\nX: " + b"a" * 10**7, GET[:-2] + b"X: y\r\n" * 10**6]
)
def test_an_endless_head_is_refused(server: uvicorn.Server, endless: bytes) -> None:
    with connected(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(endless)
        answer = everything(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


def test_a_long_head_is_refused_with_a_sentence(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * (HEAD_BYTES + 1))
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"over 65536 bytes" in answer


def test_endless_trailers_and_extensions_are_refused(server: uvicorn.Server) -> None:
    for frames in (b"0\r\n" + b"X: y\r\n" * 10**6, b"1;" + b"x" * 10**7):
        with connected(server) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n" + frames)
            answer = everything(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


def test_long_bodies_many_requests_and_long_work_are_not_cut_off(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        accepted = protocol(server)
        head = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n"
        connection.sendall(GET * 200 + head)
        for number in range(1, 31):
            connection.sendall(b"x" * 100_000)
            until(lambda left=3_000_000 - number * 100_000: accepted._left_of_body == left, "it to arrive")  # type: ignore[misc]
            assert accepted._timer is None, "nothing waits for a body"
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 201
    assert answer.endswith(b"3000000")


def test_an_answer_that_is_taken_is_not_cut_off_and_one_that_is_not_is(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = GET.replace(b"/ ", b"/large ", 1)
    resume, timers = BoundedProtocol.resume_writing, list[object]()

    def resumed(accepted: BoundedProtocol) -> None:
        resume(accepted)
        timers.append(accepted._timer)

    monkeypatch.setattr(BoundedProtocol, "resume_writing", resumed)
    with connected(server) as connection:
        connection.sendall(large)
        taken = 0
        while taken < LARGE:
            came = len(connection.recv(500_000))
            assert came, "cut off although it takes its answer"
            taken += came
    assert None in timers, "whoever has taken a part has the whole time for the next one"
    until(lambda: not server.server_state.connections, "it to be gone")
    with connected(server) as idle:
        protocol(server)
        monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 0.5)
        idle.sendall(large * 50)  # the first fills the buffers, and the others wait for it
        until(lambda: not server.server_state.connections, "who takes nothing to be cut off")
        assert len(everything(idle)) < LARGE


def is_served(connection: socket.socket) -> bool:
    connection.sendall(GET)
    came = b""
    while not came.endswith(b"\r\n\r\n0"):
        more = connection.recv(1000)
        if not more:
            return False
        came += more
    return came.startswith(b"HTTP/1.1 200 OK")


@pytest.fixture
def _three_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit, and a patience that no test waits for."""
    monkeypatch.setattr(connection_limits, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 600)


@pytest.mark.usefixtures("_three_connections")
def test_a_connection_too_many_takes_the_place_of_the_one_that_did_nothing_longest(server: uvicorn.Server) -> None:
    with contextlib.ExitStack() as all_of_them:
        held = [all_of_them.enter_context(connected(server)) for _ in range(3)]
        assert all(is_served(connection) for connection in held)
        assert is_served(held[0])
        with connected(server) as one_more:
            assert is_served(one_more)
            assert everything(held[1]) == b""
            assert all(is_served(connection) for connection in (held[0], held[2]))


@pytest.mark.usefixtures("_three_connections")
def test_an_address_with_many_connections_gives_way_before_one_with_few(server: uvicorn.Server) -> None:
    with contextlib.ExitStack() as all_of_them:
        few = all_of_them.enter_context(connected(server, "127.0.0.2"))
        many = [all_of_them.enter_context(connected(server, "127.0.0.3")) for _ in range(5)]
        assert is_served(many[-1])
        assert is_served(few)
        assert everything(many[0]) == b""


@pytest.mark.usefixtures("_three_connections")
def test_requests_of_known_callers_are_not_cut_off_and_one_too_many_is_refused(server: uvicorn.Server) -> None:
    known, unknown = (GET.replace(b"/ ", path) for path in (b"/known ", b"/unknown "))
    with contextlib.ExitStack() as all_of_them:
        held = [all_of_them.enter_context(connected(server)) for _ in range(3)]
        for connection in held:
            connection.sendall(known)
        until(lambda: len(server.server_state.tasks) == 3, "three requests")
        with connected(server) as refused:
            answer = everything(refused)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 5\r\n" in answer
        released.set()
        assert all(connection.recv(1000).startswith(b"HTTP/1.1 200 OK") for connection in held)
        released.clear()
        for connection in held:
            connection.sendall(unknown)
        until(lambda: len(server.server_state.tasks) == 3, "three requests")
        with connected(server) as served:
            assert is_served(served)
        released.set()


def test_many_headers_are_refused_with_a_sentence(server: uvicorn.Server) -> None:
    for more, status in ((MAX_HEADERS - 1, b"200 OK"), (MAX_HEADERS, b"431 Request Header Fields Too Large")):
        with connected(server) as connection:
            connection.sendall(GET[:-2] + b"x: y\r\n" * more + b"\r\n")
            answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 " + status)


def test_what_follows_a_request_for_another_protocol_is_not_read(server: uvicorn.Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    for request in (GET[:-2] + upgrade + b"\r\n", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + upgrade + b"\r\nabc"):
        with connected(server) as connection:
            connection.sendall(request + GET * 3)
            answer = everything(connection)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("size", [1, 100, 300, 5000, 10**6])
def test_requests_in_any_pieces_are_answered_one_by_one_and_in_order(server: uvicorn.Server, size: int) -> None:
    bodies = [b"x" * length for length in (0, 1, 255, 256, 257, 70_000, 2)]
    sent = b"".join(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(each) + each for each in bodies)
    sent += b"".join(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n" % (len(each), each) * bool(each)
        + b"0\r\n\r\n"
        for each in bodies
    )
    sent += b"GET / HTTP/1.0\r\n\r\n"
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), size) if size > 1 else range(3000):
            connection.sendall(sent[start : start + size])
        if size == 1:
            connection.sendall(sent[3000:])
        answers = everything(connection).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [int(each.split(b"\r\n\r\n")[1]) for each in answers] == [*map(len, bodies), *map(len, bodies), 0]


def test_who_hangs_up_in_the_middle_leaves_nothing(server: uvicorn.Server) -> None:
    for begun in (
        GET[:-2],
        GET * 100,
        GET.replace(b"/ ", b"/large ", 1) * 9,
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
    ):
        with connected(server) as connection:
            until(lambda: server.server_state.connections, "it to be there")
            connection.sendall(begun)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends with a reset
        until(lambda: not server.server_state.connections and not server.server_state.tasks, "it to be gone")
