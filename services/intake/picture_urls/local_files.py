"""Read files below a local folder without following links, so that none leads out of it."""

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from visual_memory.schemas.errors import FetchFailed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a pipe would wait for its writer."""


def read_beneath(folder: Path, path: str, max_bytes: int) -> bytes:
    """Read the first bytes of a file below a folder.

    Each folder of the path is opened relative to its parent, so that a link created meanwhile cannot redirect it.

    Args:
        folder: may be a link itself, because the operator names it.
        path: relative to the folder.
        max_bytes: the largest number of bytes to read.

    Raises:
        FetchFailed: it is no regular file.
        OSError: it cannot be read, or a part of the path is a link.
    """
    *parents, name = path.split("/")
    with ExitStack() as opened:
        at = _open(opened, str(folder), _FOLDER, None)
        for parent in parents:
            at = _open(opened, parent, _FOLDER | os.O_NOFOLLOW, at)
        file = _open(opened, name, _FILE, at)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FetchFailed("it is no file")
        with os.fdopen(os.dup(file), "rb") as reader:
            return reader.read(max_bytes)


def _open(opened: ExitStack, name: str, flags: int, within: int | None) -> int:
    descriptor = os.open(name, flags, dir_fd=within)
    opened.callback(os.close, descriptor)
    return descriptor
