"""Supervise the processes of one machine: start them concurrently, restart those that die, stop all of them.

Each process reports when it is ready. One that dies soon after that is restarted after growing pauses.

Children run in separate process groups, so Ctrl-C reaches only the supervisor. It then stops them, those that others
depend on last. If the supervisor is killed, the kernel sends them a signal (Linux).
"""

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

from visual_memory.services.infrastructure.processes.data_folder_lock import lock_data_folder
from visual_memory.services.infrastructure.processes.prctl import end_with_parent
from visual_memory.services.infrastructure.processes.private_redis import intake_command, prepare_intake, redis_command
from visual_memory.services.infrastructure.processes.ready_message import ADDRESS, ReadyMessages, ready_messages
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.settings import Settings

STOP_SECONDS = 15.0
"""Seconds until a child that does not stop is killed."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
RUNS_WELL = 10.0
"""Seconds after which a process that was ready counts as stable."""
POLL = 0.1


@dataclass
class Child:
    """A supervised process; one that depends on another waits for it itself, at its start and after restarts.

    Attributes:
        answers: checks whether the process is ready, if it cannot report that itself.
        environment: variables in addition to those of this process.
        failures: how often it died in a row before it was stable.
        ready_at: when it became ready since its last start, by the monotonic clock; 0: not yet.
        retry_at: when it is to be restarted, by the monotonic clock; 0: it has not died.
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
        """Start the process."""
        end_together = partial(end_with_parent, os.getpid(), signal.SIGTERM)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # not a session: see `cpu_threads.lower_priority`
                env={**os.environ, **self.environment},
                preexec_fn=end_together,  # noqa: PLW1509 - the supervisor has one thread
            )
        self.ready_at = self.retry_at = 0.0

    def look(self, said_ready: Collection[int]) -> None:
        """Update the state, and restart the process if it died and its pause is over.

        Args:
            said_ready: the ids of processes that have reported that they are ready.
        """
        if self.process is None:
            return
        if self.process.poll() is None:
            if not self.ready_at and (self.process.pid in said_ready or (self.answers and self.answers())):
                self.ready_at = time.monotonic()
        elif not self.retry_at:
            self._plan_restart(time.monotonic(), self.process.returncode)
        elif time.monotonic() >= self.retry_at:
            self.start()

    def _plan_restart(self, moment: float, status: int) -> None:
        ran_well = self.ready_at and moment - self.ready_at >= RUNS_WELL
        self.failures = 0 if ran_well else self.failures + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures, 32))
        self.retry_at = moment + pause
        print(f"{self.name} ended with {status} and is restarted in {pause:g} s; see {self.log}", file=sys.stderr)  # noqa: T201


def stop(stopped: Sequence[Child]) -> None:
    """Terminate processes, and kill those that do not stop within `STOP_SECONDS`."""
    alive = [child.process for child in stopped if child.process is not None and child.process.poll() is None]
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
    """The processes that these settings need on this machine: those that others depend on, and the others."""
    paths = DataPaths(settings.data)
    paths.logs.mkdir(parents=True, exist_ok=True)

    environment = {ADDRESS: str(paths.ready_socket), "PROMETHEUS_MULTIPROC_DIR": str(paths.metrics.absolute())}

    def command_child(name: str) -> Child:
        command = [sys.executable, "-m", "visual_memory.services.cli", name]
        return Child(name, command, paths.logs / f"{name}.log", environment=environment)

    needed = []
    if settings.broker.url is None:
        listens = partial(_listens, paths.redis_socket)  # a Redis server sends no ready message
        needed.append(Child("redis", redis_command(paths), paths.logs / "redis.log", listens))
    if settings.intake.url is None:
        prepare_intake(paths, intake_password)
        listens, log = partial(_listens, paths.intake_socket), paths.logs / "intake-redis.log"
        needed.append(Child("intake-redis", intake_command(paths, settings.intake), log, listens))
    if settings.store.url is None:
        needed.append(command_child("engine"))
    return needed, [command_child(name) for name in ("worker", "jobs", "api", "intake-reader", "beat")]


def run(settings: Settings, intake_password: str, on_ready: Callable[[], object]) -> None:
    """Keep the processes running until SIGINT or SIGTERM.

    Args:
        settings: of the service.
        intake_password: of the service's user of the intake's private Redis.
        on_ready: called once, when all processes are ready.

    Raises:
        Unavailable: another process has locked the data folder.
    """
    paths = DataPaths(settings.data)
    locked = lock_data_folder(paths.data, "another 'visual-memory up'")
    with locked, _stop_flag() as stopping, ready_messages(paths.ready_socket) as messages:
        shutil.rmtree(paths.metrics, ignore_errors=True)
        paths.metrics.mkdir()
        needed, others = children(settings, intake_password)
        try:
            _keep_running([*needed, *others], stopping, messages, on_ready)
        finally:
            stop(others)
            stop(needed)


def _keep_running(
    supervised: Sequence[Child], stopping: Callable[[], bool], messages: ReadyMessages, on_ready: Callable[[], object]
) -> None:
    for child in supervised:
        child.start()
    announced = False
    while not stopping():
        said_ready = set(messages.receive())
        for child in supervised:
            child.look(said_ready)
        if not announced and all(child.ready_at for child in supervised):
            announced = True
            on_ready()
        time.sleep(POLL)


def _listens(path: Path) -> bool:
    """Whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(path)) == 0


@contextmanager
def _stop_flag() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM was received; both only set this flag."""
    stopping = False

    def stop_soon(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop_soon) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
