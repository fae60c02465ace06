"""Make writes durable: they survive a crash of the machine once a call returns."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush the content of a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
