"""Find files of a watched folder that are new and completely written.

A file is complete once its size and modification time have been stable for a while, and no process has it open for
writing, if the kernel can tell. A file that was sent too early is sent again when it has changed.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from errno import EAGAIN
from pathlib import Path

from visual_memory.services.client.folders_and_manifests import is_picture
from visual_memory.services.watched_folder.sent_files import SentFiles, Stamp

TEMPORARY_SUFFIXES = {".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".swp"}
"""Suffixes of temporary files, which programs rename when they are complete."""


@dataclass(frozen=True)
class Observation:
    """The stamp of a file, and since when it has been stable, in seconds of the monotonic clock."""

    stamp: Stamp
    since: float


class WatchedFolder:
    """The files below a folder that were not sent yet.

    Args:
        folder: the folder.
        sent: the files that were sent.
        stable_seconds: how many seconds a file must be stable.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, folder: Path, sent: SentFiles, stable_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._sent = sent
        self._stable_seconds = stable_seconds
        self._clock = clock
        self._waiting: dict[Path, Observation] = {}
        self._skipped: dict[Path, Stamp] = {}

    def __bool__(self) -> bool:
        """Whether files wait until they are complete; empty ones do not count, as they may stay empty."""
        return any(seen.stamp.size for seen in self._waiting.values())

    def scan(self, paths: Iterable[Path]) -> int:
        """Scan changed paths, files or folders with all that is below them; return the number of files."""
        number = 0
        for path in paths:
            for file in _files(path):
                number += 1
                self._scan_file(file)
        return number

    def complete_files(self) -> Iterator[tuple[Path, Stamp]]:
        """Yield files that can be sent, with their stamps; each once, until it changes."""
        for path, seen in [*self._waiting.items()]:
            stamp = _stamp(path)
            if stamp is None:  # it was deleted, or moved, and is found at its new path
                del self._waiting[path]
            elif stamp != seen.stamp:
                self._waiting[path] = Observation(stamp, self._clock())
            elif stamp.size and self._clock() - seen.since >= self._stable_seconds and not _is_open_for_writing(path):
                del self._waiting[path]
                yield path, stamp

    def requeue(self, path: Path, stamp: Stamp) -> None:
        """Queue a file again that changed while it was read."""
        self._waiting[path] = Observation(stamp, self._clock())

    def skip(self, path: Path, stamp: Stamp) -> None:
        """Skip a file that cannot be sent, until it changes or until the next start."""
        self._skipped[path] = stamp

    def _scan_file(self, path: Path) -> None:
        relative = path.relative_to(self._folder)
        if any(part.startswith(".") for part in relative.parts) or path.suffix.lower() in TEMPORARY_SUFFIXES:
            return
        stamp = _stamp(path)
        if stamp is None or stamp in (self._skipped.get(path), self._sent.stamp(os.fsencode(relative))):
            return
        if path not in self._waiting and is_picture(path):
            self._waiting[path] = Observation(stamp, self._clock())


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or the files below a folder; links to folders are not followed."""
    if not path.is_dir():
        yield path
    elif not path.is_symlink():
        for folder, _, names in os.walk(path):
            for name in names:
                yield Path(folder) / name


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns)


def _is_open_for_writing(path: Path) -> bool:
    """Return whether a process has a file open for writing; False if the kernel cannot tell.

    Linux grants a read lease (fcntl(2)) only on files that no process has open for writing, if they belong to the
    caller's user and are on a local disk.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)  # is ignored; the default signal would end the process
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == EAGAIN
    finally:
        os.close(handle)
    return False
