"""Preview a removal, request it, wait for its receipt, and print both."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import typer
from rich.table import Table

from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest, RemovalStatus
from visual_memory.services.cli.exit_codes import FAILED
from visual_memory.services.cli.shared_options import print_json
from visual_memory.services.cli.terminal_output import MAX_LISTED, console, stage_bars
from visual_memory.services.client.http_client import Client

POLL_SECONDS = 0.5


def remove_with_receipt(client: Client, request: RemovalRequest, *, yes: bool = False, as_json: bool = False) -> None:
    """Print a preview, ask for confirmation unless `yes`, remove, and print the receipt."""
    if not as_json:
        print_preview(client.preview_removal(request))
    if not yes and not typer.confirm("Remove them for good?"):
        raise typer.Exit(FAILED)
    removal = wait_for_receipt(client, client.remove(request, wait_seconds=0), quiet=as_json)
    if as_json:
        print_json(removal.model_dump(mode="json"))
    else:
        print_receipt(removal)


def wait_for_receipt(client: Client, removal: Removal, *, quiet: bool = False) -> Removal:
    """Poll until the removal is done, and erased if it is to be erased at once; shows its progress unless `quiet`."""
    waits_for = None
    with stage_bars(quiet=quiet) as progress:
        while removal.status is not RemovalStatus.DONE or (removal.erase_now and removal.erasure is None):
            progress(removal.stage or "erase", removal.done, removal.total)
            if removal.waits_for not in (None, waits_for) and not quiet:
                typer.echo(f"it waits: {removal.waits_for}", err=True)
            waits_for = removal.waits_for
            time.sleep(POLL_SECONDS)
            removal = client.removal(removal.id)
    return removal


def print_preview(preview: RemovalPreview) -> None:
    """Print what a removal would cover, and what else it would delete or change."""
    console.print(f"{preview.images} images would be removed: {_counts(preview.by_state)}")
    for name, counts in (("label", preview.by_label), ("source", preview.by_source)):
        if counts:
            console.print(f"  by {name}: {_counts(counts)}", markup=False, highlight=False)
    for image in preview.samples:
        named = [image.image_id, image.file_name or "", ", ".join(image.labels), image.state]
        console.print("  " + "  ".join(filter(None, named)), markup=False, highlight=False)
    if preview.images > len(preview.samples):
        console.print(f"  ... and {preview.images - len(preview.samples)} more")
    for line in _what_else(preview):
        console.print(f"also {line}")


def _what_else(preview: RemovalPreview) -> Iterator[str]:
    """What a removal deletes or changes in addition to images, as lines."""
    least = "at least " if preview.is_estimate else ""
    if preview.queued:
        yield f"{least}{preview.queued} entries that wait in the intake"
    if preview.queued is None:
        yield "what waits in the intake, which does not answer now"
    if preview.decisions:
        yield f"{least}{preview.decisions} stored decisions that mention them"
    if preview.evaluations:
        yield f"{preview.evaluations} evaluations"
    if preview.explanations:
        yield f"{preview.explanations} counterfactuals and influences"
    if preview.judgement:
        yield "the judgement of the memory, which is changed to one without them"
    if preview.backups:
        latest, oldest = preview.backups[0], preview.backups[-1]
        yield (
            f"{len(preview.backups)} backups may hold them, of {oldest:%Y-%m-%d} to {latest:%Y-%m-%d}: those are not"
            " changed, but a restore leaves them out"
        )


def print_receipt(removal: Removal) -> None:
    """Print the receipt of a removal as a table."""
    table = Table(title=f"Receipt {removal.id}", show_header=False, title_justify="left")
    rows = {
        "status": removal.status,
        "filter": "everything" if removal.everything else _filter(removal),
        "reason": removal.reason,
        "requested": f"{removal.requested_at:%Y-%m-%d %H:%M:%S} UTC by {removal.requested_by}",
        "images removed": f"{removal.images}: {_counts(removal.by_state)}",
        "pictures deleted": str(removal.pictures),
        "entries taken from the intake": str(removal.queued),
        "blocked from now on": "yes" if removal.block else "no",
        "verified none left": f"{removal.verified_at:%Y-%m-%d %H:%M:%S} UTC" if removal.verified_at else "not yet",
        "erased from the disk": _erasure(removal),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _erasure(removal: Removal) -> str:
    if removal.erasure is None:
        return "not yet"
    done = f"{removal.erasure.at:%Y-%m-%d %H:%M:%S} UTC"
    return done if removal.erasure.erased else f"requested {done}: {removal.erasure.note}"


def _filter(removal: Removal) -> str:
    return "no longer stored" if removal.filter is None else removal.filter.model_dump_json()


def _counts(counts: Mapping[Any, int]) -> str:
    listed = ", ".join(f"{count} {name}" for name, count in islice(counts.items(), MAX_LISTED)) or "none"
    return f"{listed}, ... and {len(counts) - MAX_LISTED} more" if len(counts) > MAX_LISTED else listed
