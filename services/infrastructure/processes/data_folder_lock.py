"""Lock a data folder, so that only one service or memory writes to it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visual_memory.schemas.errors import Unavailable


@contextmanager
def lock_data_folder(folder: Path, holder: str) -> Iterator[None]:
    """Keep a data folder locked during the block; the kernel releases the lock of a process that dies.

    Args:
        folder: the data folder.
        holder: what holds the lock, for the message that others get.

    Raises:
        Unavailable: another process, or another block of this one, has locked it; the message says which.
    """
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Unavailable(f"{folder} is in use by {file.read(200) or 'another process'}") from None
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield
