"""Clients that stream pictures while something breaks, a proxy that breaks connections, workers to be killed."""

import random
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
import redis
from pydantic import TypeAdapter

from tests.support.databases import new_postgresql
from tests.support.intake_redis import intake_server
from tests.support.running_service import Stack, fields, new_folder, running, unique, until
from tests.support.shape_pictures import KINDS, picture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Accepted, Image, State
from visual_memory.services.infrastructure.processes.private_redis import find_redis_server
from visual_memory.services.infrastructure.processes.supervisor import Child, stop

CLIENTS = 8
PAUSE = 8.0
"""Seconds that a client waits between requests at most; on average half of it."""
MOST_AT_ONCE = 3
STUCK_SECONDS = 120.0
POLL = 0.2
_ACCEPTED = TypeAdapter(list[Accepted])


@dataclass(frozen=True)
class Answer:
    """How a request was answered: when it was sent, after how many seconds, with which status (0: not at all)."""

    sent_at: float
    seconds: float
    status: int


@dataclass
class Streams:
    """Eight clients that send pictures without a break while this context is open.

    Attributes:
        sent: the ids of all pictures.
        accepted: those that were answered 202, with the moment.
    """

    stack: Stack
    source: str = field(default_factory=lambda: unique("stream"))
    sent: set[str] = field(default_factory=set)
    accepted: dict[str, float] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pictures = [picture(kind) for kind in KINDS * 4]
        self._numbers = count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.flows()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def flows(self) -> None:
        """Wait until pictures that are sent from now on are accepted."""
        now = time.monotonic()
        until(lambda: sum(moment > now for moment in list(self.accepted.values())) >= CLIENTS, "pictures to flow")

    def slowest(self, since: float = 0.0) -> float:
        """Seconds that the slowest answer took to a request that was sent after a moment."""
        return max((answer.seconds for answer in list(self.answers) if answer.sent_at >= since), default=0.0)

    def statuses(self, since: float = 0.0) -> set[int]:
        """How requests that were sent after a moment were answered."""
        return {answer.status for answer in list(self.answers) if answer.sent_at >= since}

    def settle(self, before: float = float("inf")) -> float:
        """Wait until nothing waits that was accepted before a moment; how many seconds that took."""
        begun = progress = time.monotonic()
        left = {image_id for image_id, moment in list(self.accepted.items()) if moment < before}
        while left:
            still = left & self.stack.held({"source": self.source, "state": "waiting"}).keys()
            if still != left:
                progress = time.monotonic()
            assert time.monotonic() - progress < STUCK_SECONDS, f"{len(left)} images wait for ever"
            left = still
            time.sleep(POLL)
        return time.monotonic() - begun

    def check(self) -> dict[str, Image]:
        """Every picture that was answered 202 is there once, remembered; nothing is there that nobody sent."""
        assert not self.failures, self.failures
        self.settle()
        images = list(
            self.stack.client.iterate(self.stack.client.images, Filter.model_validate({"source": self.source}))
        )
        times = Counter(image.image_id for image in images)
        assert set(times.values()) == {1}
        assert times.keys() <= self.sent
        assert self.accepted.keys() - times.keys() == set(), "lost"
        assert [image for image in images if image.state is not State.REMEMBERED] == []
        return {image.image_id: image for image in images}

    def _run(self) -> None:
        try:
            with httpx.Client(
                base_url=self.stack.url, headers=self.stack.http.headers, timeout=60, trust_env=False
            ) as http:
                while not self._over.wait(random.uniform(0, PAUSE)):
                    self._send(http)
        except BaseException as error:
            self.failures.append(error)
            raise

    def _send(self, http: httpx.Client) -> None:
        ids = [f"{self.source}-{next(self._numbers)}" for _ in range(random.randint(1, MOST_AT_ONCE))]
        self.sent.update(ids)
        said = [fields(labels=["disc"], source=self.source, image_id=image_id) for image_id in ids]
        files = [("files", ("p", random.choice(self._pictures))) for _ in ids]
        begun = time.monotonic()
        try:
            answer = http.post("/v1/images", files=files, data={"fields": said})
        except httpx.TransportError:  # the API is gone: whether it took them is not known
            self.answers.append(Answer(begun, time.monotonic() - begun, 0))
            return
        self.answers.append(Answer(begun, time.monotonic() - begun, answer.status_code))
        if answer.status_code == 202:
            accepted = [each.image_id for each in _ACCEPTED.validate_json(answer.content)]
            assert accepted == ids
            self.accepted.update(dict.fromkeys(accepted, time.monotonic()))
        else:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0


class Proxy:
    """A TCP proxy to a port of this machine, on a port of its own."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._links: list[_Link] = []
        self._refuses = self._swallows = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def reset(self) -> None:
        """Reset every connection, and each new one at once, until `heal`."""
        self._refuses = True
        for link in self._links:
            link.reset()

    def stall(self) -> None:
        """Swallow whatever comes on every connection and on each new one; `heal` mends new ones only."""
        self._swallows = True
        for link in self._links:
            link.swallows = True

    def heal(self) -> None:
        """Let new connections through."""
        self._refuses = self._swallows = False

    def close(self) -> None:
        """Stop listening, and close every connection."""
        self._listener.close()
        for link in self._links:
            link.reset()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
                link = _Link(caller, socket.create_connection(("127.0.0.1", self._target)), self._swallows)
            except OSError:  # closed, or there is nobody to pass it on to
                if self._listener.fileno() == -1:
                    return
                caller.close()
                continue
            self._links.append(link)
            if self._refuses:
                link.reset()
            link.start()


class _Link:
    """A connection through the proxy: both its ends."""

    def __init__(self, caller: socket.socket, target: socket.socket, swallows: bool) -> None:
        self._ends = (caller, target)
        self.swallows = swallows

    def start(self) -> None:
        for source, sink in (self._ends, self._ends[::-1]):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def reset(self) -> None:
        for end in self._ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with RST
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads
                end.close()
            except OSError:
                continue

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.swallows:
                    sink.sendall(data)
        except OSError:
            pass
        if not self.swallows:  # one that stalls does not pass on the end either
            self.reset()


@dataclass(frozen=True)
class Proxied:
    """A service that reaches its Redis through a proxy; `redis` does not."""

    stack: Stack
    proxy: Proxy
    redis: "redis.Redis"


@contextmanager
def proxied() -> Iterator[Proxied]:
    with new_folder() as folder, _own_redis(folder) as port, intake_server() as intake:
        proxy = Proxy(port)
        settings = {
            "BROKER__URL": f"redis://127.0.0.1:{proxy.port}/0",
            "INTAKE__URL": intake.url,
            "SECRET": secrets.token_hex(32),
            "RECORDS__URL": new_postgresql(),
        }
        with redis.Redis(port=port) as client, running(folder / "data", **settings) as stack:
            yield Proxied(stack, proxy, client)
        proxy.close()


@contextmanager
def _own_redis(folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [str(find_redis_server()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            yield port
        finally:
            server.kill()


@dataclass
class Worker:
    """A worker that is killed again and again, and comes back.

    Attributes:
        process: finds it.
        restart: starts it again, where no supervisor does.
    """

    log: Path
    process: Callable[[], psutil.Process]
    restart: Callable[[], object] = lambda: None
    lives: int = 0

    def is_ready(self) -> bool:
        """Whether it takes messages, in this life."""
        return self.begun() > self.lives

    def kill(self) -> None:
        self.lives = self.begun()
        process = self.process()
        process.kill()
        psutil.wait_procs([process], 10)
        self.restart()

    def begun(self) -> int:
        """How many lives it has begun."""
        return self.log.read_text(errors="replace").count(" ready.") if self.log.exists() else 0


def supervised(stack: Stack) -> Worker:
    """The service's own worker."""
    return Worker(stack.data / "logs" / "worker.log", lambda: stack.child("worker"))


@contextmanager
def further_workers(stack: Stack, number: int) -> Iterator[Sequence[Worker]]:
    """More workers of the same service."""
    environment = [f"{name}={value}" for name, value in stack.environment.items()]
    command = ["env", *environment, sys.executable, "-m", "visual_memory.services.cli", "worker"]
    children = [Child(f"worker-{n}", command, stack.data / "logs" / f"worker-{n}.log") for n in range(number)]
    for child in children:
        child.start()
    try:
        yield [Worker(child.log, _process_of(child), partial(_restart, child)) for child in children]
    finally:
        stop(children)


def _restart(child: Child) -> None:
    stop([child])  # it is dead, and this buries it
    child.start()


def _process_of(child: Child) -> Callable[[], psutil.Process]:
    def process() -> psutil.Process:
        assert child.process is not None
        return psutil.Process(child.process.pid)

    return process
