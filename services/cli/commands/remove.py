"""Remove images that meet a filter, and print the receipt."""

from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.shared_options import (
    DEFAULT_URL,
    AsJson,
    FilterText,
    ImageIds,
    Key,
    Labels,
    Reason,
    Sources,
    Subjects,
    Url,
    Yes,
    connect,
    filter_from_options,
)


def remove(
    reason: Reason,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    everything: Annotated[bool, typer.Option("--everything", help="All images; instead of a filter.")] = False,
    block: Annotated[bool, typer.Option("--block", help="Refuse the same contents and subjects from now on.")] = False,
    erase_now: Annotated[
        bool, typer.Option("--erase-now", help="Erase from the disk at once, and wait for the receipt of the erasure.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Forget: show what would be removed, ask for confirmation, remove it, and print the receipt."""
    from visual_memory.schemas.removal import RemovalRequest
    from visual_memory.services.cli.removal_with_receipt import remove_with_receipt

    with exit_on_error(), connect(url, key) as client:
        where = filter_from_options(subject, source, label, image_id, filter_)
        request = RemovalRequest(filter=where, everything=everything, reason=reason, block=block, erase_now=erase_now)
        remove_with_receipt(client, request, dry_run=dry_run, yes=yes, as_json=as_json)
