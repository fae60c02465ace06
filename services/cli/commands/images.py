"""List the images of the memory, in an order or by their similarity to one of them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.first_items import first_items
from visual_memory.services.cli.shared_options import (
    DEFAULT_URL,
    AsJson,
    FilterText,
    ImageIds,
    Key,
    Labels,
    Sources,
    Subjects,
    Url,
    connect,
    filter_from_options,
    print_json,
)

if TYPE_CHECKING:
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.image_search import FoundImage, ImageSort
    from visual_memory.services.client.http_client import Client

MAX_SIMILAR = 1000


def images(
    similar_to: Annotated[
        str | None, typer.Option(help="Id of an image: list the images most similar to it, at most 1,000.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="accepted_at, -accepted_at, captured_at or -captured_at; with - the latest first (default)."),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List images with their labels and states, the latest first."""
    with exit_on_error(), connect(url, key) as client:
        where = filter_from_options(subject, source, label, image_id, filter_)
        if similar_to is None:
            found = _in_order(client, where, sort, limit)
        elif sort is not None:
            fail("--sort is not given with --similar-to: the most similar images come first")
        else:
            found = client.search(where, similar_to=similar_to, limit=min(limit, MAX_SIMILAR)).data
        for each in found:
            if as_json:
                print_json(each.model_dump(mode="json"))
            else:
                similarity = "" if each.similarity is None else f"  {each.similarity:.3f}"
                typer.echo(f"{each.image_id}{similarity}  {each.state}  {', '.join(each.labels)}")


def _in_order(client: "Client", where: "Filter", sort: str | None, limit: int) -> "Iterable[FoundImage]":
    """The first images of an order; exit with a message if there is no such order."""
    from typing import cast, get_args

    from visual_memory.schemas.image_search import LATEST_FIRST, ImageSort

    if sort is not None and sort not in get_args(ImageSort):
        fail(f"there is no order {sort!r}: the orders are {', '.join(get_args(ImageSort))}")
    order = LATEST_FIRST if sort is None else cast("ImageSort", sort)
    return first_items(client.search, limit, where, sort=order)
