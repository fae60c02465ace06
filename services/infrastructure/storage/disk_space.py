"""The floor of free space: the embedded engine dies of a full disk (SIGBUS), so nobody may write down to the last byte.

The floor falls in steps, so that what makes room goes on when what takes room is refused already.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visual_memory.schemas.errors import OutOfSpace

MIB = 2**20
SPARE = 4.0
"""The share of the floor that must stay free when something is kept that could be made again."""
NEW = 1.0
"""The share of the floor that must stay free when something new comes: a picture, a point, an index."""
FINISH = 0.5
"""When what was accepted is finished or changed, and when the engine opens its folder."""
REMOVE = 0.25
"""When a removal is recorded and marks what it covers, and when what was begun is given back."""
DELETE = 0.125
"""When points are deleted, and segments written."""


def check_free_space(folder: Path, floor: float, size: int = 0) -> None:
    """Return if a disk has room.

    Args:
        folder: on that disk; must exist.
        floor: bytes that must stay free.
        size: bytes that are about to be written.

    Raises:
        OutOfSpace: it has not.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < floor + size:
        raise OutOfSpace(
            f"the disk has {free / MIB:.0f} MiB left, and this needs {(floor + size) / MIB:.0f} MiB, most of it"
            " kept for removals; make room, then send it again"
        )


@contextmanager
def translate_full_disk() -> Iterator[None]:
    """What the embedded engine raises of a full disk becomes `OutOfSpace`."""
    try:
        yield
    except Exception as error:  # Edge raises nothing more particular
        if "No space left" in str(error):
            raise OutOfSpace("the disk is full; make room, then send it again") from error
        raise
