"""What is shown of a watched folder: a line for each file that was sent or left out."""

from pathlib import Path

import typer

from visual_memory.services.cli.shared_options import print_json
from visual_memory.services.watched_folder.file_to_event import FileEvent


class WatchReport:
    """Says what becomes of each file; what is wrong goes to standard error.

    Args:
        as_json: whether lines are JSON, for machines.

    Attributes:
        sent: how many files were sent.
        left_out: how many were not, because they cannot be.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.sent = 0
        self.left_out = 0

    def is_sent(self, path: Path, event: FileEvent, entry: str) -> None:
        """Say that a file was put on the stream."""
        self.sent += 1
        if self._as_json:
            print_json({"path": str(path), "label": event.label, "entry": entry, "id": event.id})
        else:
            typer.echo(f"sent {path} ({event.label}) as entry {entry}")

    def is_left_out(self, path: Path, reason: str) -> None:
        """Say that a file cannot be sent, and why."""
        self.left_out += 1
        if self._as_json:
            print_json({"path": str(path), "left_out": reason})
        else:
            typer.echo(f"left out {path}: {reason}", err=True)

    def tell(self, sentence: str) -> None:
        """Say something of the whole."""
        typer.echo(sentence, err=True)
