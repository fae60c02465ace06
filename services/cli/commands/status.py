"""Print the state of every component of the service, and the labels with the most images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from visual_memory.services.cli.exit_codes import FAILED, exit_on_error
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.labels import LabelCount


def status(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show whether every component of the service is ready, and its labels."""
    with exit_on_error(), connect(url, key) as client:
        readiness = client.readiness()
        labels = (
            list(client.iterate(client.labels)) if readiness["ready"] and key else []
        )  # readiness needs no key, labels do
    if as_json:
        print_json({**readiness, "labels": {each.label: each.images for each in labels}})
    else:
        _print_status(readiness, labels)
    if not readiness["ready"]:
        raise typer.Exit(FAILED)


def _print_status(readiness: Mapping[str, Any], labels: "Sequence[LabelCount]") -> None:
    from visual_memory.services.cli.terminal_output import MAX_LISTED, console

    for name, component in readiness["parts"].items():
        state = "ok  " if component["ok"] else "DOWN"
        console.print(f"{state}  {name}  {component['detail']}", markup=False)
    console.print(f"{len(labels)} labels")
    for each in labels[:MAX_LISTED]:
        console.print(f"  {each.images:>8}  {each.label}", markup=False)
