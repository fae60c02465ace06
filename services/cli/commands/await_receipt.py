"""A removal on the command line: shown, asked for, done; and its receipt, waited for."""

import time

import typer

from visual_memory.schemas.removal import Removal, RemovalRequest, RemovalStatus
from visual_memory.services.cli import tables
from visual_memory.services.cli.shared_options import FAILED, print_json
from visual_memory.services.client.http_client import Client

POLL = 0.5


def wait_for_receipt(client: Client, removal: Removal) -> Removal:
    """Ask until the removal is done, and erased where that is to be at once."""
    while removal.status is not RemovalStatus.DONE or (removal.erase_now and removal.erasure is None):
        time.sleep(POLL)
        removal = client.removal(removal.id)
    return removal


def remove_with_receipt(
    client: Client, request: RemovalRequest, *, dry_run: bool = False, yes: bool = False, as_json: bool = False
) -> None:
    """Show what would go, ask unless `yes`, remove it and print the receipt; with `dry_run`, only show."""
    preview = client.preview(request)
    if dry_run and as_json:
        print_json(preview.model_dump(mode="json"))
    elif not as_json:
        tables.preview(preview)
    if dry_run:
        return
    if not yes and not typer.confirm("Remove them for good?"):
        raise typer.Exit(FAILED)
    receipt = wait_for_receipt(client, client.remove(request))
    if as_json:
        print_json(receipt.model_dump(mode="json"))
    else:
        tables.receipt(receipt)
