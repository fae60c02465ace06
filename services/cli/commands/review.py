"""The review queue: list it, mark its items as looked at, and claim them."""

from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.first_items import first_items
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from visual_memory.schemas.review import ReviewItem, ReviewKind

app = typer.Typer(help="What is worth a look: list it, mark it as looked at, claim it.", no_args_is_help=True)

KindOption = Annotated[str | None, typer.Option("--kind", help="Only one kind: image, suspect or decision.")]
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="image, suspect or decision.")]
ItemId = Annotated[str, typer.Argument(metavar="ID", help="The item's id, as `review list` prints it.")]


@app.command("list")
def list_items(
    kind: KindOption = None,
    limit: Annotated[int, typer.Option(help="How many, what is most worth a look first.", min=1)] = 20,
    reviewed: Annotated[bool, typer.Option("--reviewed", help="Also those that were looked at.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List doubted images, suspects, and stored decisions that are unknown or close."""
    wanted = None if kind is None else _kind(kind)
    with exit_on_error(), connect(url, key) as client:
        found = list(first_items(client.review, limit, wanted, include_reviewed=reviewed))
    _print_items(found, as_json=as_json)


@app.command()
def mark(
    kind: KindArgument,
    item_id: ItemId,
    undo: Annotated[bool, typer.Option("--undo", help="Take the mark back.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Mark an item as looked at."""
    wanted = _kind(kind)
    with exit_on_error(), connect(url, key) as client:
        if undo:
            client.unmark_reviewed(wanted, item_id)
        else:
            client.mark_reviewed(wanted, item_id)


@app.command()
def claim(
    kind: KindOption = None,
    limit: Annotated[int, typer.Option(help="How many of the next items.", min=1, max=100)] = 10,
    release: Annotated[bool, typer.Option("--release", help="Release what this key holds instead.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Hold the next items for a minute, so that nobody else reviews them."""
    from visual_memory.schemas.review import ReviewClaim

    wanted = None if kind is None else _kind(kind)
    with exit_on_error(), connect(url, key) as client:
        if release:
            client.release_reviews()
            return
        found = client.claim_reviews(ReviewClaim(limit=limit, kind=wanted))
    _print_items(found, as_json=as_json)


def _kind(text: str) -> "ReviewKind":
    from visual_memory.schemas.review import ReviewKind

    if text not in set(ReviewKind):
        fail(f"there are no items of a kind {text!r}: the kinds are {', '.join(ReviewKind)}")
    return ReviewKind(text)


def _print_items(found: "Sequence[ReviewItem]", *, as_json: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from visual_memory.services.cli.terminal_output import console

    if as_json:
        for each in found:
            print_json(each.model_dump(mode="json"))
        return
    table = Table("kind", "score", "id", "reason", "reviewed by", "held by", box=None, padding=(0, 2))
    for each in found:
        people = (escape(who or "") for who in (each.reviewed_by, each.claimed_by))
        table.add_row(each.kind.value, f"{each.score:.3f}", escape(each.id), escape(each.reason), *people)
    console.print(table if found else "nothing to review")
