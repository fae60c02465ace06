"""List suspects: images that a judgement found suspicious."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.first_items import first_items
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.judgement import Suspect
    from visual_memory.services.client.http_client import Client


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


def load_suspects(client: "Client", kind: str | None, limit: int) -> "list[Suspect]":
    """Load the strongest suspects; exit with a message if the kind is unknown or no judgement is current."""
    from visual_memory.schemas.judgement import Suspicion

    if kind is not None and kind not in set(Suspicion):
        fail(f"there are no suspects of a kind {kind!r}: the kinds are {', '.join(Suspicion)}")
    if client.judgement().current is None:
        fail("the memory is not judged at present: run `visual-memory judge` first")
    return list(first_items(client.suspects, limit, None if kind is None else Suspicion(kind)))


def _print_suspects(found: "Sequence[Suspect]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from visual_memory.services.cli.terminal_output import console

    table = Table("kind", "score", "image", "labels", "reason", box=None, padding=(0, 2))
    for each in found:
        own = escape(", ".join(each.labels))
        table.add_row(each.suspicion, f"{each.score:.3f}", escape(each.image_id), own, escape(each.reason))
    console.print(table if found else "no suspects")
