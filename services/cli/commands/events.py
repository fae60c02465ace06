"""Print what happens in the key's tenant, as it happens."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.event import Event


def events(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type, such as removed; may be repeated.")
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="Begin after the event with this cursor.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Print what happens to images, removals and jobs until Ctrl-C; after `resync`, events may be missing."""
    with suppress(KeyboardInterrupt), exit_on_error(), connect(url, key) as client:
        for event in client.events(types or (), cursor):
            if as_json:
                print_json(event.model_dump(mode="json"))
            else:
                typer.echo(_line(event))


def _line(event: "Event") -> str:
    fields = event.model_dump(mode="json", exclude={"cursor", "type", "at", "image_ids"})
    named = [f"{name} {value}" for name, value in fields.items()] + [*(event.image_ids or ())]
    return f"{event.at:%Y-%m-%d %H:%M:%S}  {event.type}  {', '.join(named)}"
