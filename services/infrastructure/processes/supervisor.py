"""One machine's processes: starts them side by side, restarts what dies, stops them all at the end.

Each says itself when it is ready. What dies before it has run well for a while is restarted after pauses that grow.

Children run in a process group of their own, so that Ctrl-C reaches the supervisor alone, which then stops them, what
others need last; should it be killed outright, the kernel tells them (Linux).
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from visual_memory.services.infrastructure.processes.prctl import end_with_parent
from visual_memory.services.infrastructure.processes.private_redis import intake_command, prepare_intake, redis_command
from visual_memory.services.infrastructure.processes.ready_message import ADDRESS, ReadyMessages, ready_messages
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.settings import Settings

STOP_SECONDS = 15.0
"""Seconds that a child has to stop by itself."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
RUNS_WELL = 10.0
"""Seconds after which a process that said that it is ready counts as one that runs well."""
POLL = 0.1


class AlreadyRunning(Exception):
    """Another supervisor uses the same data folder."""


@dataclass
class Child:
    """A process to keep alive; who needs another one waits for it by itself, at the start as after its death.

    Attributes:
        answers: asks it whether it is ready, where it cannot say so itself.
        environment: what it gets beside that of this process.
        failures: how often it died in a row, without having run well.
        ready_at: when it was ready in this life; 0: not yet. As the others a moment of the monotonic clock.
    """

    name: str
    command: Sequence[str]
    log: Path
    answers: Callable[[], bool] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    ready_at: float = 0.0
    retry_at: float = 0.0

    def start(self) -> None:
        """Start it."""
        ours = partial(end_with_parent, os.getpid(), signal.SIGTERM)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # and not a session, see `services.infrastructure.processes.cpu_threads.step_back`
                env={**os.environ, **self.environment},
                preexec_fn=ours,  # noqa: PLW1509 - the supervisor has one thread
            )
        self.ready_at = self.retry_at = 0.0

    def look(self, said_ready: Collection[int]) -> None:
        """See how it is; start it again if it died, and its pause is over.

        Args:
            said_ready: the ids of processes that have said that they are ready.
        """
        if self.process is None:
            return
        if self.process.poll() is None:
            if not self.ready_at and (self.process.pid in said_ready or (self.answers and self.answers())):
                self.ready_at = time.monotonic()
        elif not self.retry_at:
            self._plan(time.monotonic(), self.process.returncode)
        elif time.monotonic() >= self.retry_at:
            self.start()

    def _plan(self, moment: float, status: int) -> None:
        """Decide when it is started again."""
        ran_well = self.ready_at and moment - self.ready_at >= RUNS_WELL
        self.failures = 0 if ran_well else self.failures + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures, 32))
        self.retry_at = moment + pause
        print(f"{self.name} ended with {status}, and is started again in {pause:g} s; see {self.log}", file=sys.stderr)  # noqa: T201


def stop(together: Sequence[Child]) -> None:
    """Ask them to stop, then make those that have not within `STOP_SECONDS`."""
    alive = [child.process for child in together if child.process is not None and child.process.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def children(settings: Settings, intake_password: str) -> tuple[list[Child], list[Child]]:
    """The processes that these settings need on this machine: those that others need, and the others."""
    places = DataPaths(settings.data)
    places.logs.mkdir(parents=True, exist_ok=True)

    environment = {ADDRESS: str(places.ready_socket), "PROMETHEUS_MULTIPROC_DIR": str(places.metrics.absolute())}

    def ours(name: str) -> Child:
        command = [sys.executable, "-m", "visual_memory.services.cli", name]
        return Child(name, command, places.logs / f"{name}.log", environment=environment)

    needed = []
    if settings.broker.url is None:
        listens = partial(_listens, places.redis_socket)  # it speaks no other language
        needed.append(Child("redis", redis_command(places), places.logs / "redis.log", listens))
    if settings.intake.url is None:
        prepare_intake(places, intake_password)
        listens, log = partial(_listens, places.intake_socket), places.logs / "intake-redis.log"
        needed.append(Child("intake-redis", intake_command(places, settings.intake), log, listens))
    if settings.store.url is None:
        needed.append(ours("engine"))
    return needed, [ours("worker"), ours("jobs"), ours("api"), ours("intake-reader"), ours("beat")]


def run(settings: Settings, intake_password: str, on_ready: Callable[[], object]) -> None:
    """Keep the processes alive until SIGINT or SIGTERM.

    Args:
        settings: of the service.
        intake_password: with which its processes log in at the intake's private Redis.
        on_ready: called once, when all of them are ready.

    Raises:
        AlreadyRunning: another supervisor uses the data folder.
    """
    places = DataPaths(settings.data)
    with _alone(places.data / "lock"), _until_told() as told, ready_messages(places.ready_socket) as messages:
        shutil.rmtree(places.metrics, ignore_errors=True)
        places.metrics.mkdir()
        needed, others = children(settings, intake_password)
        try:
            _keep_alive([*needed, *others], told, messages, on_ready)
        finally:
            stop(others)
            stop(needed)


def _keep_alive(
    kept: Sequence[Child], told: Callable[[], bool], messages: ReadyMessages, on_ready: Callable[[], object]
) -> None:
    for child in kept:
        child.start()
    announced = False
    while not told():
        said_ready = set(messages.receive())
        for child in kept:
            child.look(said_ready)
        if not announced and all(child.ready_at for child in kept):
            announced = True
            on_ready()
        time.sleep(POLL)


def _listens(path: Path) -> bool:
    """Whether a process listens at a socket."""
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(path)) == 0


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
