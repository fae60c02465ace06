"""Remove images that meet a filter, and print the receipt; or only preview that."""

import uuid
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
    print_json,
)

Everything = Annotated[bool, typer.Option("--everything", help="All images; instead of a filter.")]


def remove(
    reason: Reason,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    everything: Everything = False,
    block: Annotated[bool, typer.Option("--block", help="Refuse the same contents and subjects from now on.")] = False,
    erase_now: Annotated[
        bool, typer.Option("--erase-now", help="Erase from the disk at once, and wait for the receipt of the erasure.")
    ] = False,
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
        remove_with_receipt(client, request, yes=yes, as_json=as_json)


def preview_removal(
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    everything: Everything = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show what `remove` would remove and what else would go; changes nothing."""
    from visual_memory.schemas.removal import RemovalRequest
    from visual_memory.services.cli.removal_with_receipt import print_preview

    with exit_on_error(), connect(url, key) as client:
        where = filter_from_options(subject, source, label, image_id, filter_)
        reason = str(uuid.uuid4())  # of no removal; it must not contain a value of the filter
        preview = client.preview_removal(RemovalRequest(filter=where, everything=everything, reason=reason))
    if as_json:
        print_json(preview.model_dump(mode="json"))
    else:
        print_preview(preview)
