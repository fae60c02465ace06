"""Judge the memory by its own votes, and print suspects and classes."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.judgement import JudgementStatus, Suspect
    from visual_memory.schemas.labels import LabelCount
    from visual_memory.services.client.http_client import Client

POLL_SECONDS = 0.5
MAX_CLASSES = 10


def judge(
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Judge the memory by itself: classify each image by the votes of the others."""
    with exit_on_error(), connect(url, key) as client:
        job = client.judge()
        if wait:
            _wait_for_job(client, job.id, quiet=as_json)
        status = client.judgement()
    if as_json:
        print_json(status.model_dump(mode="json"))
    else:
        _print_judgement(status)


def suspects(
    kind: Annotated[str | None, typer.Option(help="Only one kind: label, duplicate or outlier.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List images that deserve a look: likely label errors, near-duplicates, outliers; each with its reason."""
    with exit_on_error(), connect(url, key) as client:
        found = load_suspects(client, kind, limit)
    if as_json:
        for each in found:
            print_json(each.model_dump(mode="json"))
    else:
        _print_suspects(found)


def labels(
    thin: Annotated[int, typer.Option(help="Classes of fewer images are called thin.", min=0)] = 10,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List every class: its images, how often the others vote right for them, and what they are confused with."""
    with exit_on_error(), connect(url, key) as client:
        found = client.labels()
    if as_json:
        for each in found:
            print_json({**each.model_dump(mode="json"), "thin": each.images < thin})
    else:
        _print_labels(found, thin)


def load_suspects(client: "Client", kind: str | None, limit: int) -> "list[Suspect]":
    """Load the strongest suspects; exit with a message if the kind is unknown or no judgement is current."""
    from visual_memory.schemas.judgement import Suspicion

    if kind is not None and kind not in set(Suspicion):
        fail(f"there are no suspects of a kind {kind!r}: the kinds are {', '.join(Suspicion)}")
    if client.judgement().current is None:
        fail("the memory is not judged at present: run `visual-memory judge` first")
    return client.suspects(None if kind is None else Suspicion(kind), limit)


def _wait_for_job(client: "Client", job_id: str, *, quiet: bool) -> None:
    """Show the progress of a job until it is done."""
    from visual_memory.schemas.background_job import JobState
    from visual_memory.services.cli.terminal_output import progress_bar

    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            job = client.judgement().job
            if job is None or job.id != job_id or job.state is JobState.DONE:
                return
            if job.state is JobState.FAILED:
                fail(f"the memory could not be judged: {job.error}")
            progress.update(task, description=job.stage or "waiting", completed=job.done, total=job.total or None)
            time.sleep(POLL_SECONDS)


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
        table.add_row(escape(each.label), str(each.images), f"{each.accuracy:.1%}", _confusions(each.confused_with))
    console.print(table)
    if len(current.classes) > MAX_CLASSES:
        console.print(f"  ... and {len(current.classes) - MAX_CLASSES} more, with a higher accuracy")


def _print_suspects(found: "Sequence[Suspect]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from visual_memory.services.cli.terminal_output import console

    table = Table("kind", "score", "image", "labels", "reason", box=None, padding=(0, 2))
    for each in found:
        own = escape(", ".join(each.labels))
        table.add_row(each.suspicion, f"{each.score:.3f}", escape(each.image_id), own, escape(each.reason))
    console.print(table if found else "no suspects")


def _print_labels(found: "Sequence[LabelCount]", thin: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    from visual_memory.services.cli.terminal_output import console

    table = Table("class", "images", "accuracy", "confused with", "", box=None, padding=(0, 2))
    for each in found:
        accuracy = "not judged" if each.accuracy is None else f"{each.accuracy:.1%}"
        confusions = _confusions(each.confused_with or {})
        table.add_row(escape(each.label), str(each.images), accuracy, confusions, "thin" if each.images < thin else "")
    console.print(table)


def _confusions(counts: Mapping[str, int]) -> str:
    from rich.markup import escape

    return escape(", ".join(f"{label} {number}" for label, number in counts.items()))
