"""Files below a folder of this machine: no link is followed, so that none leads out of it."""

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from visual_memory.schemas.errors import FetchFailed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""To open a pipe would else wait for whoever writes to it."""


def read_beneath(folder: Path, path: str, most: int) -> bytes:
    """The first bytes of a file below a folder.

    It is walked to from folder to folder, so that nobody who puts a link in its way meanwhile changes where it leads.

    Args:
        folder: may be a link itself, for the operator named it.
        path: from there.
        most: so many bytes are read at most.

    Raises:
        FetchFailed: it is no file, or a link.
        OSError: it cannot be read.
    """
    *parents, name = path.split("/")
    with ExitStack() as opened:
        at = _open(opened, str(folder), _FOLDER, None)
        for parent in parents:
            at = _open(opened, parent, _FOLDER | os.O_NOFOLLOW, at)
        file = _open(opened, name, _FILE, at)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FetchFailed("what lies there is no file")
        with os.fdopen(os.dup(file), "rb") as reader:
            return reader.read(most)


def _open(opened: ExitStack, name: str, flags: int, within: int | None) -> int:
    descriptor = os.open(name, flags, dir_fd=within)
    opened.callback(os.close, descriptor)
    return descriptor
