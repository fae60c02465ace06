"""Judge the memory by its own votes, and print the judgement."""

from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.commands.labels import confusions_text
from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.judgement import JudgementStatus

MAX_CLASSES = 10


def judge(
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Judge the memory by itself: classify each image by the votes of the others."""
    from visual_memory.services.cli.wait_for_job import wait_for_job

    with exit_on_error(), connect(url, key) as client:
        job = client.judge()
        if wait:
            wait_for_job(client, job.id, "the memory could not be judged", quiet=as_json)
        status = client.judgement()
    if as_json:
        print_json(status.model_dump(mode="json"))
    else:
        _print_judgement(status)


def _print_judgement(status: "JudgementStatus") -> None:
    from rich.markup import escape
    from rich.table import Table

    from visual_memory.services.cli.terminal_output import console

    current = status.current
    if current is None:
        console.print("not judged" + (f"; a job is {status.job.state}" if status.job else ""))
        return
    console.print(
        f"{current.images} images judged at {current.made_at:%Y-%m-%d %H:%M:%S} UTC by {current.k} neighbours each"
        + ("; the memory was changed since" if status.stale else "")
    )
    console.print("suspects: " + ", ".join(f"{number} {kind}" for kind, number in current.suspects.items()))
    table = Table("class", "images", "accuracy", "confused with", box=None, padding=(0, 2))
    for each in current.classes[:MAX_CLASSES]:
        table.add_row(escape(each.label), str(each.images), f"{each.accuracy:.1%}", confusions_text(each.confused_with))
    console.print(table)
    if len(current.classes) > MAX_CLASSES:
        console.print(f"  ... and {len(current.classes) - MAX_CLASSES} more, with a higher accuracy")
