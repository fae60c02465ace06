"""Print the state of every component of the service, and the labels with the most images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visual_memory.services.cli.exit_codes import FAILED, exit_on_error
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.labels import LabelCount
    from visual_memory.schemas.usage import Usage


def status(
    url: Url = DEFAULT_URL,
    key: Key = None,
    with_usage: Annotated[
        bool, typer.Option("--usage", help="also what the tenant used in the last 30 days; needs a key for admin")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show whether every component of the service is ready, and its labels."""
    with exit_on_error(), connect(url, key) as client:
        readiness = client.readiness()
        labels = (
            list(client.iterate(client.labels)) if readiness["ready"] and key else []
        )  # readiness needs no key, labels do
        usage = client.usage() if with_usage and readiness["ready"] else None
    if as_json:
        used = {} if usage is None else {"usage": usage.model_dump(mode="json")}
        print_json({**readiness, "labels": {each.label: each.images for each in labels}, **used})
    else:
        _print_status(readiness, labels)
        if usage is not None:
            _print_usage(usage)
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


def _print_usage(usage: "Usage") -> None:
    from visual_memory.schemas.usage import Measure
    from visual_memory.services.cli.terminal_output import console

    counted = {measure: sum(getattr(day, measure) for day in usage.days) for measure in Measure}
    states = ", ".join(f"{number} {state}" for state, number in usage.images.items())
    console.print(f"images: {states}; stored decisions: {usage.decisions}", markup=False)
    console.print(f"from {usage.days[0].day} to {usage.days[-1].day}:", markup=False)
    for measure, amount in counted.items():
        console.print(f"  {amount:>14,}  {measure.replace('_', ' ')}", markup=False)
