"""A small disk of a test's own: a tmpfs that no other process sees, in a child with its own mount namespace.

python -m tests.faults.small_disk MODULE FUNCTION MIB    mount it, call the function with its folder, print the result
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from visual_memory.services.infrastructure.storage.disk_space import MIB

LIMIT = 900
"""Seconds for one function."""


def on_small_disk(test: Callable[[Path], dict[str, Any]], mib: int) -> dict[str, Any]:
    """Call a module's function with the folder of a disk of so many MiB, in a child; what it returned.

    Skips the test where this machine lets nobody mount.
    """
    command = [*_namespace(), sys.executable, "-m", "tests.faults.small_disk", test.__module__, test.__name__, str(mib)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        try:
            output, _ = child.communicate(timeout=LIMIT)
        finally:
            if child.returncode != 0:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # with all that it started
    assert child.returncode == 0, f"{test.__name__} failed in the child; see above"
    returned: dict[str, Any] = json.loads(output.splitlines()[-1])
    return returned


@cache
def _namespace() -> tuple[str, ...]:
    """The command that gives a child its own mounts: as root, or as root of its own user namespace."""
    said = []
    for command in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        with TemporaryDirectory() as folder:
            tried = subprocess.run(
                [*command, "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False
            )
        if tried.returncode == 0:
            return command
        said.append(tried.stderr.strip())
    pytest.skip(f"no small disk can be mounted here: {'; '.join(said)}")


class Ballast:
    """A file that leaves a disk as much room as the test wants."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "ballast"

    def leave(self, free: float) -> None:
        """Let so many bytes be free, to the page."""
        size = self._file.stat().st_size if self._file.exists() else 0
        wanted = max(0, size + _free(self._folder) - int(free))
        with self._file.open("ab") as file:
            if wanted < size:
                file.truncate(wanted)
            elif wanted > size:
                os.posix_fallocate(file.fileno(), size, wanted - size)


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _main(module: str, function: str, mib: str) -> None:
    with TemporaryDirectory(prefix="vm", dir="/tmp") as folder:  # short enough for sockets
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(mib) * MIB}", "tmpfs", folder], check=True)
        try:
            returned = getattr(importlib.import_module(module), function)(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    print(json.dumps(returned))


if __name__ == "__main__":
    _main(*sys.argv[1:])
