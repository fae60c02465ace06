"""The console, and progress bars on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

MAX_LISTED = 10
"""Rows of a list that are printed before "... and N more"."""
console = Console()


def progress_bar(*, quiet: bool) -> Progress:
    """Make a progress bar with counts and times; on standard error, so that output can be piped."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=quiet)


@contextmanager
def stage_bars(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each stage; yields a callback that takes the stage, the number done, and the total."""
    bars = progress_bar(quiet=quiet)
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield report
        for task in bars.tasks:
            bars.update(task.id, completed=task.total)  # some stages report only their beginning
    finally:
        if tasks:  # without a task it would print an empty line
            bars.stop()
