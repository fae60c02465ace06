"""One machine's processes: starts them side by side, restarts what dies, stops them all at the end.

Children run in a process group of their own, so that Ctrl-C reaches the supervisor alone, which then stops them, what
others need last; should it be killed outright, the kernel tells them (Linux).
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from services.parent import end_with
from services.runtime.places import Places
from services.runtime.redis_server import redis_command
from services.settings import Settings

PATIENCE = 15.0
"""Seconds that a child has to stop by itself."""
LONGEST_PAUSE = 10.0
POLL = 0.1


class AlreadyRunning(Exception):
    """Another supervisor uses the same data folder."""


@dataclass
class Child:
    """A process to keep alive; who needs another one waits for it by itself, at the start as after its death."""

    name: str
    command: Sequence[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    started: float = 0.0
    retry_at: float = field(default=0.0)

    def start(self) -> None:
        """Start it."""
        ours = partial(end_with, os.getpid(), signal.SIGTERM)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=ours,  # noqa: PLW1509 - the supervisor has one thread
            )
        self.started = time.monotonic()

    def revive(self) -> None:
        """Start it again if it died: at once, then with growing pauses while it dies young."""
        if self.process is None or self.process.poll() is None:
            return
        if not self.retry_at:
            young = time.monotonic() - self.started < LONGEST_PAUSE
            self.failures = self.failures + 1 if young else 0
            self.retry_at = time.monotonic() + min(LONGEST_PAUSE, 0.25 * 2**self.failures)
            print(f"{self.name} ended with {self.process.returncode}; see {self.log}", file=sys.stderr)  # noqa: T201
        if time.monotonic() >= self.retry_at:
            self.retry_at = 0.0
            self.start()


def stop(together: Sequence[Child]) -> None:
    """Ask them to stop, then make those that have not within `PATIENCE`."""
    alive = [child.process for child in together if child.process is not None and child.process.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def children(settings: Settings) -> tuple[list[Child], list[Child]]:
    """The processes that these settings need on this machine: those that others need, and the others."""
    places = Places(settings.data)
    places.logs.mkdir(parents=True, exist_ok=True)

    def child(name: str, command: Sequence[str]) -> Child:
        return Child(name, command, places.logs / f"{name}.log")

    def ours(name: str) -> Child:
        return child(name, [sys.executable, "-m", "services.cli", name])

    own_redis = [child("redis", redis_command(places))] if settings.broker.url is None else []
    own_engine = [ours("engine")] if settings.store.url is None else []
    return [*own_redis, *own_engine], [ours("worker"), ours("api"), ours("beat")]


def run(settings: Settings, each_turn: Callable[[], None]) -> None:
    """Keep the processes alive until SIGINT or SIGTERM; `each_turn` is called ten times a second meanwhile.

    Raises:
        AlreadyRunning: another supervisor uses the data folder.
    """
    places = Places(settings.data)
    settings.data.mkdir(parents=True, exist_ok=True)
    with _alone(places.data / "lock"), _until_told() as told:
        shutil.rmtree(places.metrics, ignore_errors=True)
        places.metrics.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(places.metrics.absolute())
        needed, others = children(settings)
        kept = [*needed, *others]
        try:
            for child in kept:
                child.start()
            while not told():
                for child in kept:
                    child.revive()
                each_turn()
                time.sleep(POLL)
        finally:
            stop(others)
            stop(needed)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"{lock.parent} is in use by another 'visual-memory up'") from None
        yield


@contextmanager
def _until_told() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come; both only set this flag."""
    told = False

    def tell(_signal: int, _frame: FrameType | None) -> None:
        nonlocal told
        told = True

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
