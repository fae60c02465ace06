"""The intake's private Redis as `up` starts it, of one test or of a few."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.running_service import new_folder, until
from visual_memory.services.infrastructure.processes.private_redis import INTAKE_USER, intake_command, prepare_intake
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.settings import IntakeSettings

PASSWORD = "the-password"


class IntakeServer:
    """It, and a client of it that may do everything."""

    def __init__(self, folder: Path, settings: IntakeSettings) -> None:
        self.places = DataPaths(folder)
        self.socket = str(self.places.intake_socket)
        self.settings = settings
        self.client: Any = redis.Redis(unix_socket_path=self.socket, username=INTAKE_USER, password=PASSWORD)
        self.start()

    @property
    def keys(self) -> StreamKeys:
        return StreamKeys(self.settings.prefix)

    @property
    def url(self) -> str:
        """As the settings of another service name it."""
        return f"unix://{INTAKE_USER}:{PASSWORD}@{self.socket}"

    def streams(self) -> Streams:
        """The streams over it."""
        return Streams(self.client, self.keys, self.settings.results)

    def start(self) -> None:
        """Start it over what it kept."""
        prepare_intake(self.places, PASSWORD)
        command = intake_command(self.places, self.settings)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, umask=0o077)
        until(self._answers, "the answer of the intake's Redis")

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:  # it is not there yet, or reads its log
            return False


@contextmanager
def intake_server(folder: Path | None = None, **settings: Any) -> Iterator[IntakeServer]:
    """One that is stopped at the end."""
    with new_folder() as made:
        started = IntakeServer(folder or made, IntakeSettings(**settings))
        try:
            yield started
        finally:
            started.client.close()
            started.kill()
