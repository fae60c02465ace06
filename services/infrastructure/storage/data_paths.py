"""The layout of the data folder, and the unix sockets of the processes of one machine."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from visual_memory.services.infrastructure.storage.owner_only_files import private_folder

SOCKET_PATH_LIMIT = 90
"""Maximum length of a unix socket's path, in bytes; the kernel accepts 107."""


@dataclass(frozen=True)
class DataPaths:
    """The paths below a data folder."""

    data: Path

    @property
    def engine(self) -> Path:
        """Files of the embedded engine."""
        return self.data / "engine"

    @property
    def logs(self) -> Path:
        """One log for each process that `visual-memory up` starts."""
        return self.data / "logs"

    @property
    def metrics(self) -> Path:
        """Files in which the processes of this machine sum their metrics; recreated at each start."""
        return self.data / "metrics"

    @property
    def audit(self) -> Path:
        """The audit log of earlier versions, which is imported into the database."""
        return self.data / "audit.jsonl"

    @property
    def secret(self) -> Path:
        """The signing secret, if the settings have none; readable by this user only."""
        return self.data / "secret"

    @property
    def engine_socket(self) -> Path:
        """Socket of the engine's owner process."""
        return self._sockets / "engine.sock"

    @property
    def redis_socket(self) -> Path:
        """Socket of the private Redis."""
        return self._sockets / "redis.sock"

    @property
    def intake(self) -> Path:
        """Files of the intake's private Redis: waiting entries, its append-only log, its users."""
        return self.data / "intake"

    @property
    def intake_socket(self) -> Path:
        """Socket of the intake's private Redis."""
        return self._sockets / "intake.sock"

    @property
    def ready_socket(self) -> Path:
        """Socket on which the processes report that they are ready."""
        return self._sockets / "ready.sock"

    @property
    def _sockets(self) -> Path:
        """A private folder: in the data folder if its path is short enough for a socket, else among temporary files."""
        folder = self.data.absolute() / "run"
        if len(os.fsencode(folder)) > SOCKET_PATH_LIMIT:
            digest = hashlib.sha256(os.fsencode(self.data.absolute())).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"visual-memory-{os.getuid()}-{digest}"
        private_folder(folder)
        return folder
