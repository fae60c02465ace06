"""Promise 7: whatever connections send, leave open or do not take, memory is bounded and other clients are served."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import BinaryIO

import psutil
import pytest

from tests.support.running_service import Stack, unique
from tests.support.shape_pictures import picture
from visual_memory.schemas.api_key import Scope
from visual_memory.services.api.connection_limits import MAX_CONNECTIONS

GET = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST /v1/classify HTTP/1.1\r\nHost: here\r\n"
MOST_GROWN = 150 * 2**20
"""Bytes; without bounds it was four times as much and more."""
FLOODS = {
    "requests": (1, GET * 5000),
    "requests of many": (30, GET * 5000),
    "requests whose answers are long": (10, GET.replace(b"/healthz", b"/openapi.json") * 5000),
    "requests with bodies": (10, (POST + b"Content-Length: 5\r\n\r\nxxxxx") * 5000),
    "requests in chunks": (10, (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n") * 5000),
    "requests that wait to go on": (10, (POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx") * 5000),
    "another protocol": (30, GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n") * 5000),
    "HTTP/1.0": (30, GET.replace(b"1.1", b"1.0") * 5000),
    "bodies of requests that are refused": (10, POST + b"Content-Length: 1000000000\r\n\r\n" + bytes(10**6)),
    "heads of many headers": (400, GET[:-2] + b"a:\r\n" * 15_000),
}


def address(stack: Stack) -> tuple[str, int]:
    return "127.0.0.1", int(stack.url.rsplit(":", 1)[1].strip("/"))


@contextlib.contextmanager
def flood(stack: Stack, connections: int, data: bytes) -> Iterator[None]:
    """Send without reading, over and over, on so many connections: each that is closed is opened again."""
    over = threading.Event()

    def send() -> None:
        with selectors.DefaultSelector() as selector:
            while not over.is_set():
                while len(selector.get_map()) < connections:
                    connection = socket.create_connection(address(stack), timeout=30)
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_WRITE, [0])
                for key, _ in selector.select(0.05):
                    sent = key.data[0] % len(data)
                    try:
                        key.data[0] += key.fileobj.send(data[sent : sent + 2**18])  # type: ignore[union-attr]
                    except OSError:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def check_served(stack: Stack, process: psutil.Process) -> None:
    """Check that clients are served, each on a connection of its own, and that memory stays bounded meanwhile."""
    before = process.memory_info().rss
    for _ in range(3):
        with stack.caller(stack.client.key) as http:
            assert http.get("/v1/labels").status_code == 200
            assert http.post("/v1/classify", files=[("files", ("p", picture("disc")))]).status_code == 200
        assert process.memory_info().rss - before < MOST_GROWN


@pytest.mark.parametrize("name", FLOODS)
def test_what_floods_it_without_a_key_costs_bounded_memory_and_others_are_served(stack: Stack, name: str) -> None:
    connections, data = FLOODS[name]
    with flood(stack, connections, data):
        check_served(stack, stack.child("api"))


def test_answers_that_a_tenant_does_not_take_are_bounded_and_others_are_served(stack: Stack) -> None:
    key = stack.new_key(unique("takes-nothing"))
    with stack.caller(key) as http:
        sent = {"fields": '{"image_id": "large", "labels": ["x"]}'}
        large = picture("disc") + bytes(200_000)
        assert http.post("/v1/images", files=[("files", ("p", large))], data=sent).status_code == 202
    request = b"GET /v1/images/large/picture HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %b\r\n\r\n" % key.encode()
    with flood(stack, 300, request * 100):
        check_served(stack, stack.child("api"))


def test_more_connections_kept_open_than_there_may_be_shut_nobody_out(stack: Stack) -> None:
    with contextlib.ExitStack() as kept:
        for _ in range(MAX_CONNECTIONS + 8):
            connection = kept.enter_context(socket.create_connection(address(stack), timeout=30))
            connection.sendall(GET)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
        check_served(stack, stack.child("api"))


def test_listeners_take_neither_connections_nor_slots_of_others_and_a_key_has_so_many(stack: Stack) -> None:
    """More than there may be other connections, each of which hears of the image that is sent."""
    most, number = stack.settings.api.max_listeners_per_key, MAX_CONNECTIONS + 8
    keys = [stack.new_key(stack.tenant, Scope.READ) for _ in range(number // most + 1)]
    with contextlib.ExitStack() as kept:
        listeners = [listener(stack, kept, keys[index // most]) for index in range(number)]
        for each in listeners:
            until_line(each, b"id: ")
        with stack.caller(keys[0]) as http:
            refused = http.get("/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_listeners")
        assert int(refused.headers["Retry-After"]) > 0
        check_served(stack, stack.child("api"))
        [image_id] = stack.teach(picture("disc"), labels=["heard"])
        for each in listeners:
            assert image_id.encode() in until_line(each, b"data: ")


def listener(stack: Stack, kept: contextlib.ExitStack, key: str) -> BinaryIO:
    """The lines that a new listener reads."""
    connection = kept.enter_context(socket.create_connection(address(stack), timeout=30))
    connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %b\r\n\r\n" % key.encode())
    return kept.enter_context(connection.makefile("rb"))


def until_line(lines: BinaryIO, beginning: bytes) -> bytes:
    """The next line that begins so."""
    return next(line for line in lines if line.startswith(beginning))
