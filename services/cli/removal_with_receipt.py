"""Preview a removal, request it, wait for its receipt, and print both."""

import time
from collections.abc import Mapping
from typing import Any

import typer
from rich.table import Table

from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest, RemovalStatus
from visual_memory.services.cli.exit_codes import FAILED
from visual_memory.services.cli.shared_options import print_json
from visual_memory.services.cli.terminal_output import console
from visual_memory.services.client.http_client import Client

POLL_SECONDS = 0.5


def remove_with_receipt(
    client: Client, request: RemovalRequest, *, dry_run: bool = False, yes: bool = False, as_json: bool = False
) -> None:
    """Print a preview, ask for confirmation unless `yes`, remove, and print the receipt; `dry_run` only previews."""
    preview = client.preview(request)
    if dry_run and as_json:
        print_json(preview.model_dump(mode="json"))
    elif not as_json:
        print_preview(preview)
    if dry_run:
        return
    if not yes and not typer.confirm("Remove them for good?"):
        raise typer.Exit(FAILED)
    removal = wait_for_receipt(client, client.remove(request))
    if as_json:
        print_json(removal.model_dump(mode="json"))
    else:
        print_receipt(removal)


def wait_for_receipt(client: Client, removal: Removal) -> Removal:
    """Poll until the removal is done, and erased if it is to be erased at once."""
    while removal.status is not RemovalStatus.DONE or (removal.erase_now and removal.erasure is None):
        time.sleep(POLL_SECONDS)
        removal = client.removal(removal.id)
    return removal


def print_preview(preview: RemovalPreview) -> None:
    """Print what a removal would cover."""
    console.print(f"{preview.images} images would be removed: {_by_state(preview.by_state)}")
    for image_id in preview.sample:
        console.print(f"  {image_id}", markup=False, highlight=False)
    if preview.images > len(preview.sample):
        console.print(f"  ... and {preview.images - len(preview.sample)} more")


def print_receipt(removal: Removal) -> None:
    """Print the receipt of a removal as a table."""
    table = Table(title=f"Receipt {removal.id}", show_header=False, title_justify="left")
    rows = {
        "status": removal.status,
        "filter": "everything" if removal.everything else _filter(removal),
        "reason": removal.reason,
        "requested": f"{removal.requested_at:%Y-%m-%d %H:%M:%S} UTC by {removal.requested_by}",
        "images removed": f"{removal.images}: {_by_state(removal.by_state)}",
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


def _by_state(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
