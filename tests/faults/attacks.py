"""A service under siege: everything hostile at once, or one thing after the other, and what must be true after it."""

import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from tests.faults.hostile_requests import ask, begun, complaints, mutations, spools, status_of
from tests.support.running_service import Stack, new_folder, running, unique, until
from tests.support.shape_pictures import picture

BODY_SECONDS = 2
ROOM = 4_000_000
LIMITS = {
    "API__BODY_SECONDS": str(BODY_SECONDS),
    "API__MAX_BYTES_IN_FLIGHT": str(ROOM),
    "API__MAX_CONCURRENT_REQUESTS": "4",
}
PART = 250_000
LARGE = 1_200_000
"""Beyond what Starlette holds in memory of a file."""


@contextmanager
def besieged() -> Iterator[Stack]:
    """A service with narrow limits; at the end nothing of the siege may be left of it."""
    with new_folder() as folder, running(folder, **LIMITS) as stack:
        yield stack
        check_sound(stack)


def check_sound(stack: Stack) -> None:
    """It serves, its log tells of nothing unforeseen, and every file it keeps belongs to an image."""
    [image_id] = stack.teach(picture("bars"), labels=["honest"], image_id=unique("honest"))
    assert stack.remembered([image_id])
    assert stack.http.post("/v1/classify", files=[("files", ("p", picture("bars")))]).status_code == 200
    stack.settled(list(stack.held({})))
    assert complaints(stack) == []
    until(lambda: not spools(stack), "temporary files to be closed")
    assert len(stack.picture_files()) == len(stack.held({}))


def send_mutations(stack: Stack, number: int, seed: int) -> Counter[int]:
    """How often mutated requests got each status; those that the service waits for are given up."""
    with ThreadPoolExecutor(16) as pool:
        written = mutations(stack.client.key or "", number, seed)
        return Counter(pool.map(lambda request: status_of(ask(stack, request, BODY_SECONDS * 2.0)), written))


def stall(stack: Stack, connections: int) -> Counter[int]:
    """Begin uploads that never end, more than there is room for; how they were ended.

    Meanwhile their tenant is refused, and another one is served.
    """
    tenant = unique("stalls")
    key = stack.new_key(tenant)
    with ExitStack() as held, stack.caller(stack.new_key(unique("other"))) as other, stack.caller(key) as same:
        begun_uploads = [held.enter_context(begun(stack, key, PART)) for _ in range(connections)]
        sent = [("files", ("p", picture("disc") + bytes(PART)))]
        until(lambda: same.post("/v1/classify", files=sent).status_code == 503, "the room to be full")
        assert other.post("/v1/classify", files=sent).status_code == 200
        ended = Counter(status_of(_rest(connection)) for connection in begun_uploads)
        assert same.post("/v1/classify", files=sent).status_code == 200
    return ended


def _rest(connection: socket.socket) -> bytes:
    came = b""
    try:
        while more := connection.recv(65536):
            came += more
    except ConnectionError:
        pass  # as in `ask`
    return came


def hang_up(stack: Stack, times: int, seed: int) -> None:
    """Break off uploads, half of them with a reset; those that are long are in temporary files by then."""
    chance, key = random.Random(seed), stack.client.key or ""
    with begun(stack, key, LARGE):
        until(lambda: spools(stack), "a temporary file")
    for _ in range(times):
        with begun(stack, key, chance.choice((0, PART, LARGE))) as upload:
            if chance.random() < 0.5:
                upload.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not spools(stack), "temporary files to be closed")
