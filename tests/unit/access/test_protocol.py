"""Promise 7: whoever lets a connection wait, sends endless heads or opens too many is cut off, and nobody else."""

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.api import protocol
from services.api.protocol import HEAD_BYTES, BoundedProtocol
from services.cli.own_service import free_port
from tests.stack import until

LARGE = 20_000_000
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a body with its length, and /large at length."""
    with contextlib.suppress(ClientDisconnect):
        body = await Request(scope, receive).body()
        await Response(b"x" * LARGE if scope["path"] == "/large" else b"%d" % len(body))(scope, receive, send)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[uvicorn.Server]:
    """A server whose patience is short; nothing that a test does to it may be an error of its own."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    config = uvicorn.Config(app, port=free_port(), http=BoundedProtocol, lifespan="off", log_config=None)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: running.started, "the server to start")
    yield running
    running.should_exit = True
    thread.join()
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@contextlib.contextmanager
def connected(server: uvicorn.Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.config.port), timeout=30) as connection:
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
    assert b'{"error":{"code":"malformed_request","message":"' in answer


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: "], ids=["nothing", "a line", "a header"]
)
def test_a_head_that_does_not_come_is_not_waited_for(server: uvicorn.Server, begun: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(begun)
        assert everything(connection) == b""


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(server: uvicorn.Server) -> None:
    with connected(server) as connection:
        trickle(connection, GET[:-1] * 100)


def test_a_body_that_nobody_reads_any_more_is_not_waited_for(server: uvicorn.Server) -> None:
    """The answer came before the body's end, as a refusal does."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"no", 413)(scope, receive, send)

    server.config.loaded_app = refuse
    with connected(server) as connection:
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
        connection.sendall(GET * 200 + b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            connection.sendall(b"x" * 100_000)
            time.sleep(0.05)  # longer together than a head may take
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 201
    assert answer.endswith(b"3000000")


def test_an_answer_that_is_taken_is_not_cut_off_and_one_that_is_not_is(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = GET.replace(b"/ ", b"/large ", 1)
    with connected(server) as connection:
        connection.sendall(large)
        taken = 0
        while taken < LARGE:
            came = len(connection.recv(500_000))
            assert came, "cut off although it takes its answer"
            taken += came
            time.sleep(0.03)  # longer than a head may take, and than is waited between two looks
    with connected(server) as idle:
        until(lambda: len(server.server_state.connections) == 1, "only this one to be there")
        idle.sendall(large * 50)  # the first fills the buffers, and the others wait for it
        until(lambda: not server.server_state.connections, "who takes nothing to be cut off")
        assert len(everything(idle)) < LARGE


def test_one_connection_too_many_is_refused_and_those_before_are_served(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 60)
    with contextlib.ExitStack() as all_of_them:
        held = [all_of_them.enter_context(connected(server)) for _ in range(3)]
        until(lambda: len(server.server_state.connections) == 3, "three connections")
        with connected(server) as refused:
            answer = everything(refused)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 5\r\n" in answer
        for connection in held:
            connection.sendall(GET)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
    until(lambda: not server.server_state.connections, "all to be gone")
    with connected(server) as connection:
        connection.sendall(GET)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


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
