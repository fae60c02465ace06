"""The service's secret, and a key of its own for each purpose: nobody signs for one with the key of another."""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from visual_memory.services.infrastructure.storage.data_paths import Places
from visual_memory.services.infrastructure.storage.private_files import read_secret
from visual_memory.services.settings import MIN_SECRET_BYTES, Settings


class Secret:
    """What only this service knows.

    Args:
        value: at least 32 bytes.
    """

    def __init__(self, value: bytes) -> None:
        self._value = value

    def key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, the same for ever: HMAC-SHA256 of its name (RFC 2104)."""
        return hmac.digest(self._value, purpose.encode(), sha256)


def load_secret(settings: Settings) -> Secret:
    """The secret of the settings, else the one in the data folder, which is made at the first call.

    Raises:
        PermissionError: the one in the data folder is too short, or open to others.
    """
    if settings.secret is not None:
        return Secret(settings.secret.get_secret_value().encode())
    place = Places(settings.data).secret
    try:
        return Secret(read_secret(place, MIN_SECRET_BYTES))
    except FileNotFoundError:
        _make(place)
        return Secret(read_secret(place, MIN_SECRET_BYTES))


def _make(place: Path) -> None:
    """Make it aside and link it: of several processes that start at once, all see one and the same."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = place.with_name(f".{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        place.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()
