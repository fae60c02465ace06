"""Where everything of one machine lies: folders in the data folder, and the sockets that its processes meet at."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from visual_memory.services.infrastructure.storage.private_files import private_folder

SOCKET_PATH_LIMIT = 90
"""Bytes of a unix socket's path; the kernel takes 107."""


@dataclass(frozen=True)
class DataPaths:
    """The paths below a data folder."""

    data: Path

    @property
    def engine(self) -> Path:
        """The embedded engine's files."""
        return self.data / "engine"

    @property
    def logs(self) -> Path:
        """A log for each process that `visual-memory up` starts."""
        return self.data / "logs"

    @property
    def metrics(self) -> Path:
        """Where the processes of this machine add up their metrics; made anew at each start."""
        return self.data / "metrics"

    @property
    def audit(self) -> Path:
        """Who did what on this machine; for this user alone."""
        return self.data / "audit.jsonl"

    @property
    def secret(self) -> Path:
        """What this machine's processes sign with, where the settings name none; for this user alone."""
        return self.data / "secret"

    @property
    def engine_socket(self) -> Path:
        """Where the engine's owner listens."""
        return self._sockets / "engine.sock"

    @property
    def redis_socket(self) -> Path:
        """Where the private Redis listens."""
        return self._sockets / "redis.sock"

    @property
    def intake(self) -> Path:
        """What the intake's private Redis keeps: entries that wait, its log of them, its users."""
        return self.data / "intake"

    @property
    def intake_socket(self) -> Path:
        """Where the intake's private Redis listens."""
        return self._sockets / "intake.sock"

    @property
    def ready_socket(self) -> Path:
        """Where the processes say that they are ready."""
        return self._sockets / "ready.sock"

    @property
    def _sockets(self) -> Path:
        """A folder of this user alone, in the data folder where its path is short enough for a socket."""
        folder = self.data.absolute() / "run"
        if len(os.fsencode(folder)) > SOCKET_PATH_LIMIT:
            digest = hashlib.sha256(os.fsencode(self.data.absolute())).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"visual-memory-{os.getuid()}-{digest}"
        private_folder(folder)
        return folder
