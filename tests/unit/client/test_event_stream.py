"""Both clients listen: a lost connection is made again after the last whole event, and refusals are raised."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.awaited_client import CLIENTS
from visual_memory.schemas.errors import NotAuthorized, Unavailable
from visual_memory.schemas.event import Event, EventType
from visual_memory.services.client import event_stream
from visual_memory.services.client.http_client import Client

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BUSY = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer to each connection, and ends it; its address, and the heads that it read."""
    heads = list[str]()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    heads.append(connection.recv(65536).decode())
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heads
        thread.join()


def event(number: int, kind: str = "accepted") -> bytes:
    data = f'{{"cursor":"{number}-0","type":"{kind}","at":"2026-01-01T00:00:00Z","new_field":1}}'
    return f"id: {number}-0\nevent: {kind}\ndata: {data}\n\n".encode()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "FIRST_PAUSE", 0.001)


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    found: type[Client] = request.param
    return found


def test_a_lost_connection_is_made_again_after_the_last_whole_event(kind: type[Client]) -> None:
    whole_and_half = HEAD + b"retry: 1\n\n" + event(1) + event(2)[:20]
    heartbeat = b": heartbeat\nid: 3-0\n\n"
    answers = (whole_and_half, BUSY, HEAD + event(2) + heartbeat, HEAD + event(4, "invented"), REFUSED)
    with answering(*answers) as (url, heads), kind(url, "vm_x") as client:
        received = list[Event]()
        with pytest.raises(NotAuthorized):
            received.extend(client.events([EventType.ACCEPTED]))
    assert [(each.cursor, each.type) for each in received] == [
        ("1-0", EventType.ACCEPTED),
        ("2-0", EventType.ACCEPTED),
        ("4-0", "invented"),
    ]
    assert all("GET /v1/events?types=accepted " in head for head in heads)
    sent = [
        next((line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("last-event-id")), None)
        for head in heads
    ]
    assert sent == [None, "1-0", "1-0", "3-0", "4-0"]


def test_the_first_connection_fails_as_every_request_does(kind: type[Client]) -> None:
    with kind("http://127.0.0.1:1", "vm_x") as client, pytest.raises(Unavailable, match="no events are received"):
        next(iter(client.events()))
    with answering(BUSY) as (url, _), kind(url, "vm_x") as client, pytest.raises(Unavailable):
        next(iter(client.events()))
