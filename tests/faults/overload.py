"""Many more clients than the machine can serve, all at once and without a pause, and what it costs."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from tests.support.running_service import Stack, fields, unique
from tests.support.shape_pictures import KINDS, picture

OVERLOADED = {200, 202, 503}
MOST_GROWN = 2**30
"""Bytes that the memory of a process may grow by, with its decoders; half of it was seen, however many came."""
LONGEST = 60.0
"""Seconds within which every answer must come, on a machine that does other things too."""
BULK = b"\0" * 250_000
"""What makes a body long; a picture may be followed by anything."""


@dataclass
class Outcome:
    """What the clients saw, and what the service took.

    Attributes:
        answers: how often each kind of request was answered with each status.
        accepted: the ids of all images that were answered 202.
        slowest: seconds that the slowest answer took, and the slowest of ``/healthz``.
        grown: by how many bytes the memory of each process grew at most.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_health: float = 0.0
    grown: dict[str, int] = field(default_factory=dict)


def overload(stack: Stack, clients: int, seconds: float) -> Outcome:
    """Classify and teach from many clients at once, and ask for health meanwhile.

    A 503 must say when to try again, and is tried again at once all the same.

    Args:
        stack: a running service.
        clients: how many there are, each with one connection.
        seconds: for how long.
    """
    outcome, over, lock = Outcome(), threading.Event(), threading.Lock()
    pictures = [picture(kind) for kind in KINDS]

    def client(number: int) -> None:
        chance = random.Random(number)
        with stack.caller(stack.client.key) as http:
            while not over.is_set():
                kind, request = _request(chance, pictures)
                begun = time.monotonic()
                answer = http.post(timeout=LONGEST, **request)
                took = time.monotonic() - begun
                assert answer.status_code != 503 or int(answer.headers["retry-after"]) > 0
                with lock:
                    outcome.answers[kind, answer.status_code] += 1
                    outcome.slowest = max(outcome.slowest, took)
                    if answer.status_code == 202:
                        outcome.accepted += [each["image_id"] for each in answer.json()["data"]]

    def ask_for_health() -> None:
        while not over.wait(0.2):
            begun = time.monotonic()
            assert httpx.get(f"{stack.url}/healthz", timeout=LONGEST, trust_env=False).status_code == 200
            outcome.slowest_health = max(outcome.slowest_health, time.monotonic() - begun)

    with measured(stack, outcome.grown), ThreadPoolExecutor(clients + 1) as pool:
        running = [pool.submit(ask_for_health), *(pool.submit(client, number) for number in range(clients))]
        over.wait(seconds)
        over.set()
        for each in running:
            each.result()
    return outcome


def _request(chance: random.Random, pictures: list[bytes]) -> tuple[str, dict[str, Any]]:
    """One of three: classify a picture, teach one, or send a long body of several."""
    data = chance.choice(pictures)
    match chance.randrange(4):
        case 0:
            said = {"fields": fields(labels=["x"], image_id=unique("overload"))}
            return "teach", {"url": "/v1/images", "files": [("files", ("p", data))], "data": said}
        case 1:
            bulky = [("files", ("p", data + BULK)) for _ in range(6)]
            return "classify much", {"url": "/v1/classify", "files": bulky}
        case _:
            return "classify", {"url": "/v1/classify", "files": [("files", ("p", data))]}


@contextmanager
def measured(stack: Stack, grown: dict[str, int]) -> Iterator[None]:
    """Note by how much the memory of the API with its decoders, and of the worker with its own, grows at most."""
    over = threading.Event()
    before = {name: _memory(stack.child(name)) for name in ("api", "worker")}

    def watch() -> None:
        while not over.wait(0.1):
            for name, at_first in before.items():
                grown[name] = max(grown.get(name, 0), _memory(stack.child(name)) - at_first)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
