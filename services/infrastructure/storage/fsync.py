"""What is on the disk when a call returns, whatever happens to the machine afterwards."""

import os
from pathlib import Path


def sync(place: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
