"""From changes of a folder to events on a stream: each file once, as soon as it is whole."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from visual_memory.schemas.errors import InvalidRequest, TooLarge
from visual_memory.services.cli.watch_report import WatchReport
from visual_memory.services.watched_folder.file_to_event import Changed, References, event_of
from visual_memory.services.watched_folder.new_files import WatchedFolder
from visual_memory.services.watched_folder.sent_files import SentFile, SentFiles, Stamp
from visual_memory.services.watched_folder.stream_sender import StreamSender

FULL_PASS_SECONDS = 600.0
"""How often the whole folder is gone through: the kernel's notices can be lost."""


@dataclass
class Watching:
    """Sends the files of a folder.

    Attributes:
        source: where its pictures come from, said of all of them.
        stopped: once set, it ends.
    """

    folder: Path
    source: str | None
    files: WatchedFolder
    sent: SentFiles
    references: References
    sender: StreamSender
    report: WatchReport
    stopped: threading.Event
    clock: Callable[[], float] = time.monotonic
    _full_pass_at: float = field(default=float("-inf"), init=False)

    def run(self, changes: Iterable[Collection[Path]], *, once: bool = False) -> None:
        """Send what is there, and then what changes.

        Args:
            changes: paths where something has changed, as soon as it has; nothing, now and then.
            once: whether to end when all is sent that is there.

        Raises:
            InvalidRequest: the intake refuses what is sent.
        """
        for changed in changes:
            self.files.notice(changed)
            if self.clock() - self._full_pass_at >= FULL_PASS_SECONDS:
                self._pass_through()
            for path, stamp in self.files.whole():
                self._send(path, stamp)
                if self.stopped.is_set():
                    return
            if once and not self.files:
                return

    def _pass_through(self) -> None:
        """Look at every file; of a disk that is not there nothing is forgotten."""
        self._full_pass_at = self.clock()
        if self.files.notice([self.folder]):
            self.sent.forget_gone(self.folder)

    def _send(self, path: Path, stamp: Stamp) -> None:
        try:
            event = event_of(self.folder, path, stamp, self.source, self.references)
        except Changed:
            self.files.wait_again(path, stamp)
            return
        except (InvalidRequest, TooLarge) as error:
            self.files.leave_out(path, stamp)
            self.report.is_left_out(path, error.message)
            return
        relative = os.fsencode(path.relative_to(self.folder))
        file = SentFile(relative, stamp, event.digest, event.label)
        known = self.sent.with_content(event.digest)
        left = [former for former in known if not (self.folder / os.fsdecode(former)).exists()]
        if any(known[former] == event.label for former in (relative, *left) if former in known):
            self.sent.note(file, left)  # it was touched or renamed: its picture and label are as they were
        elif entry := self.sender.send(event.event):
            self.sent.note(file, left)
            self.report.is_sent(path, event, entry)
