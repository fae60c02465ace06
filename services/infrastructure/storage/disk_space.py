"""Keep a minimum of free disk space: a full disk kills the embedded engine (SIGBUS).

The minimum, called the floor, falls in steps: operations that free space still run when those that use it are refused.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visual_memory.schemas.errors import OutOfSpace

MIB = 2**20
SPARE = 4.0
"""The share of the floor that must stay free when data is cached that could be computed again."""
NEW = 1.0
"""The share of the floor that must stay free when a picture, a point or an index is added."""
FINISH = 0.5
"""When accepted images are finished or changed, and when the engine opens its folder."""
REMOVE = 0.25
"""When a removal is recorded and marks images, and when leases are released."""
DELETE = 0.125
"""When points are deleted, and segments written."""


def check_free_space(folder: Path, floor: float, size: int = 0) -> None:
    """Check that a disk has enough free space.

    Args:
        folder: an existing folder on that disk.
        floor: bytes that must stay free.
        size: bytes that are about to be written.

    Raises:
        OutOfSpace: it does not.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < floor + size:
        raise OutOfSpace(
            f"the disk has {free / MIB:.0f} MiB left, and this needs {(floor + size) / MIB:.0f} MiB, most of it"
            " reserved for removals; free some space, then send it again"
        )


@contextmanager
def translate_full_disk() -> Iterator[None]:
    """Translate what the embedded engine raises on a full disk to `OutOfSpace`."""
    try:
        yield
    except Exception as error:  # Edge raises nothing more specific
        if "No space left" in str(error):
            raise OutOfSpace("the disk is full; free some space, then send it again") from error
        raise
