"""Options that several commands share, and what they become: a client, a filter, JSON lines."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from visual_memory.schemas.filter import Filter
    from visual_memory.services.client.http_client import Client

DEFAULT_URL = "http://127.0.0.1:8700"

Url = Annotated[str, typer.Option(envvar="VISUAL_MEMORY_URL", help="URL of the API.")]
Key = Annotated[str | None, typer.Option(envvar="VISUAL_MEMORY_KEY", help="API key: vm_...")]
Subjects = Annotated[list[str] | None, typer.Option("--subject", help="Images of this subject; may be repeated.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Images from this source; may be repeated.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="Images with this label or one below it; may be repeated.")
]
ImageIds = Annotated[list[str] | None, typer.Option("--image-id", help="Image with this id; may be repeated.")]
FilterText = Annotated[str, typer.Option("--filter", help='Further conditions as JSON: {"metadata.site": "north"}.')]
Alpha = Annotated[float, typer.Option(help="Offset of the rank vote.")]
Temperature = Annotated[float, typer.Option(help="Temperature of the softmax vote.")]
Reason = Annotated[str, typer.Option(help="Reason, for the receipt.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))


@contextmanager
def connect(url: str, key: str | None) -> "Iterator[Client]":
    """Open a client of the API."""
    from visual_memory.services.client.http_client import Client

    with Client(url, key) as client:
        yield client


def filter_from_options(
    subjects: list[str] | None,
    sources: list[str] | None,
    labels: list[str] | None,
    image_ids: list[str] | None,
    filter_text: str,
) -> "Filter":
    """Combine the filter options of a command into one filter; all conditions must hold.

    Raises:
        InvalidRequest: the filter is too large or invalid, or a field is given twice.
    """
    from pydantic import ValidationError

    from visual_memory.schemas.errors import InvalidFilter, InvalidRequest
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.strict_json import parse_json
    from visual_memory.schemas.validation_faults import error_of_faults, list_json_faults

    by_field = {"subject": subjects, "source": sources, "labels": labels, "image_id": image_ids}
    try:
        parsed = parse_json(Filter, filter_text)
    except ValidationError as error:
        raise error_of_faults(InvalidFilter, list_json_faults(error, filter_text), "--filter") from None
    options = {field: values for field, values in by_field.items() if values}
    if twice := sorted(options.keys() & parsed.root.keys()):
        raise InvalidRequest(f"--filter: {twice[0]} is named by an option too: name it once")
    combined = Filter.model_validate({**parsed.root, **options})
    combined.check_size()
    return combined
