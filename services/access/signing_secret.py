"""The secret of the service, and the keys that are derived from it: a separate one for each purpose."""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.owner_only_files import read_secret
from visual_memory.services.settings import MIN_SECRET_BYTES, Settings


class Secret:
    """The secret of the service.

    Args:
        value: at least 32 bytes.
    """

    def __init__(self, value: bytes) -> None:
        self._value = value

    def key(self, purpose: str) -> bytes:
        """Derive the key of a purpose: 32 bytes, HMAC-SHA256 of its name (RFC 2104). It never changes."""
        return hmac.digest(self._value, purpose.encode(), sha256)


def load_secret(settings: Settings) -> Secret:
    """The secret of the settings, or else the one in the data folder, which is created if missing.

    Raises:
        PermissionError: the one in the data folder is too short, or readable by other users.
    """
    if settings.secret is not None:
        return Secret(settings.secret.get_secret_value().encode())
    path = DataPaths(settings.data).secret
    try:
        return Secret(read_secret(path, MIN_SECRET_BYTES))
    except FileNotFoundError:
        _create(path)
        return Secret(read_secret(path, MIN_SECRET_BYTES))


def _create(path: Path) -> None:
    """Write a temporary file and link it, so that processes that start together all read the same secret."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
