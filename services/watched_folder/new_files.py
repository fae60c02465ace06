"""A watched folder: which of its files are new and whole, and so can be sent.

A file is whole once its size and time have stayed the same for a while, and nobody has it open for writing, where the
kernel can tell. One that was taken too early all the same is sent again when it has changed.
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

UNFINISHED = {".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".swp"}
"""Endings of files that a program writes before it renames them."""


@dataclass(frozen=True)
class Seen:
    """How a file was seen, and since when it has been so, as a moment of the monotonic clock."""

    stamp: Stamp
    since: float


class WatchedFolder:
    """The files below a folder that are not sent yet.

    Args:
        folder: it.
        sent: what was sent.
        settle: for how many seconds a file must stay the same.
        clock: seconds that never go back.
    """

    def __init__(
        self, folder: Path, sent: SentFiles, settle: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._sent = sent
        self._settle = settle
        self._clock = clock
        self._waiting: dict[Path, Seen] = {}
        self._left_out: dict[Path, Stamp] = {}

    def __bool__(self) -> bool:
        """Whether files wait until they are whole; empty ones may for ever."""
        return any(seen.stamp.size for seen in self._waiting.values())

    def notice(self, paths: Iterable[Path]) -> int:
        """Look at paths where something has changed: files, or folders with all that is below them; how many files."""
        noticed = 0
        for path in paths:
            for file in _files(path):
                noticed += 1
                self._notice(file)
        return noticed

    def whole(self) -> Iterator[tuple[Path, Stamp]]:
        """Files that can be sent, with how they are; each comes once, until it changes."""
        for path, seen in [*self._waiting.items()]:
            stamp = _stamp(path)
            if stamp is None:  # it is gone, or was moved, which is noticed at its new place
                del self._waiting[path]
            elif stamp != seen.stamp:
                self._waiting[path] = Seen(stamp, self._clock())
            elif stamp.size and self._clock() - seen.since >= self._settle and not _is_written_to(path):
                del self._waiting[path]
                yield path, stamp

    def wait_again(self, path: Path, stamp: Stamp) -> None:
        """Let a file that has changed while it was read wait once more."""
        self._waiting[path] = Seen(stamp, self._clock())

    def leave_out(self, path: Path, stamp: Stamp) -> None:
        """Let a file that cannot be sent be, until it changes or the next start."""
        self._left_out[path] = stamp

    def _notice(self, path: Path) -> None:
        relative = path.relative_to(self._folder)
        if any(part.startswith(".") for part in relative.parts) or path.suffix.lower() in UNFINISHED:
            return
        stamp = _stamp(path)
        if stamp is None or stamp in (self._left_out.get(path), self._sent.stamp(os.fsencode(relative))):
            return
        if path not in self._waiting and is_picture(path):
            self._waiting[path] = Seen(stamp, self._clock())


def _files(path: Path) -> Iterator[Path]:
    """A file, or those below a folder; links to folders are left alone."""
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


def _is_written_to(path: Path) -> bool:
    """Whether a process has a file open for writing; no, where the kernel does not tell.

    Linux gives a lease for reading only on files that nobody has open so (fcntl(2)), of the caller's own user, on
    disks of this machine.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)  # is ignored; the usual one ends a process
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == EAGAIN
    finally:
        os.close(handle)
    return False
