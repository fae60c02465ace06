"""Folders and files that no other user of the machine can read."""

import logging
import os
import stat
from pathlib import Path

OTHERS = 0o077
"""Permission bits of the group and of all others."""
BLANK = b"\0 \t\r\n"

log = logging.getLogger(__name__)


def forbid_others() -> None:
    """Set the umask, so that only this user can read files that this process and its children create."""
    os.umask(OTHERS)


def private_folder(folder: Path) -> None:
    """Create a folder that only this user can read; close an existing one to others, with a warning in the log.

    Raises:
        PermissionError: it belongs to another user, or is a symbolic link.
        OSError: it cannot be created or closed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"{folder} is a symbolic link: it must be a folder of this service's user itself")
    if found.st_uid != os.geteuid():
        raise PermissionError(
            f"{folder} belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}: give the folder to"
            " this user (chown -R), or name a new folder within it"
        )
    if found.st_mode & OTHERS:
        folder.chmod(0o700)
        log.warning("%s was open to other users (mode %s) and is now closed to them (mode 700)", folder, _mode(found))


def read_secret(path: Path, least: int) -> bytes:
    """Read a file that contains a secret.

    Args:
        path: the file.
        least: minimum size in bytes.

    Raises:
        FileNotFoundError: it does not exist.
        PermissionError: others can read it, or it is too short; the message says what is required.
    """
    handle = -1
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # does not block on a pipe
        fault = _fault_of(os.fstat(handle))
        data = b"" if fault else _read(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        fault = "is a symbolic link" if path.is_symlink() else f"cannot be read ({error.strerror})"
    finally:
        if handle >= 0:
            os.close(handle)
    fault = fault or _fault_in(data, least)
    if fault:
        raise PermissionError(
            f"the secret {path} {fault}: it must be a file of at least {least} random bytes that this service's user"
            " alone can read (mode 600)"
        )
    return data


def _read(handle: int) -> bytes:
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read()


def _fault_of(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}"
    return f"is open to other users (mode {_mode(found)})" if found.st_mode & OTHERS else ""


def _fault_in(data: bytes, least: int) -> str:
    if len(data) < least:
        return f"has {len(data)} bytes"
    return "" if data.strip(BLANK) else "is blank"


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):o}"
