"""Send each new file of a watched folder to a stream once, as soon as it is complete."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from visual_memory.schemas.errors import InvalidRequest, TooLarge
from visual_memory.services.watched_folder.file_to_event import FileChanged, FileEvent, PictureReferences, make_event
from visual_memory.services.watched_folder.new_files import WatchedFolder
from visual_memory.services.watched_folder.sent_files import SentFile, SentFiles, Stamp
from visual_memory.services.watched_folder.stream_sender import StreamSender

FULL_SCAN_SECONDS = 600.0
"""Seconds between scans of the whole folder: the kernel's notifications can be lost."""


class SendReport(Protocol):
    """Receives what happens to each file."""

    def file_sent(self, path: Path, event: FileEvent, entry: str) -> None:
        """Report a file that was sent, with the id of its stream entry."""

    def file_skipped(self, path: Path, reason: str) -> None:
        """Report a file that cannot be sent."""


@dataclass
class FolderSender:
    """Sends the files of a folder.

    Attributes:
        folder: the folder.
        source: the source of all its pictures.
        files: finds new files.
        sent: records files that were sent.
        references: for pictures that are too large for an event.
        sender: sends events.
        report: receives what happens to each file.
        stopped: once set, `run` ends.
        clock: a monotonic clock, in seconds.
    """

    folder: Path
    source: str | None
    files: WatchedFolder
    sent: SentFiles
    references: PictureReferences
    sender: StreamSender
    report: SendReport
    stopped: threading.Event
    clock: Callable[[], float] = time.monotonic
    _last_full_scan: float = field(default=float("-inf"), init=False)

    def run(self, changes: Iterable[Collection[Path]], *, once: bool = False) -> None:
        """Send the existing files, and then those that change.

        Args:
            changes: changed paths, as soon as they change; sometimes an empty collection.
            once: end when all existing files are sent.

        Raises:
            InvalidRequest: the intake refuses an event.
        """
        for changed in changes:
            self.files.scan(changed)
            if self.clock() - self._last_full_scan >= FULL_SCAN_SECONDS:
                self._scan_all()
            for path, stamp in self.files.complete_files():
                self._send(path, stamp)
                if self.stopped.is_set():
                    return
            if once and not self.files:
                return

    def _scan_all(self) -> None:
        """Scan every file; records of sent files stay if the disk is not mounted."""
        self._last_full_scan = self.clock()
        if self.files.scan([self.folder]):
            self.sent.prune_deleted(self.folder)

    def _send(self, path: Path, stamp: Stamp) -> None:
        try:
            event = make_event(self.folder, path, stamp, self.source, self.references)
        except FileChanged:
            self.files.requeue(path, stamp)
            return
        except (InvalidRequest, TooLarge) as error:
            self.files.skip(path, stamp)
            self.report.file_skipped(path, error.message)
            return
        relative = os.fsencode(path.relative_to(self.folder))
        file = SentFile(relative, stamp, event.digest, event.label)
        known = self.sent.paths_of_content(event.digest)
        deleted = [former for former in known if not (self.folder / os.fsdecode(former)).exists()]
        if any(known[former] == event.label for former in (relative, *deleted) if former in known):
            self.sent.record(file, deleted)  # it was touched or renamed, with the same picture and label
        elif entry := self.sender.send(event.event):
            self.sent.record(file, deleted)
            self.report.file_sent(path, event, entry)
