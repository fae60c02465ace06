"""List the labels of the memory with the accuracy of their classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.labels import LabelCount


def labels(
    thin: Annotated[int, typer.Option(help="Classes of fewer images are called thin.", min=0)] = 10,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List every class: its images, how often the others vote right for them, and what they are confused with."""
    with exit_on_error(), connect(url, key) as client:
        found = list(client.iterate(client.labels))
    if as_json:
        for each in found:
            print_json({**each.model_dump(mode="json"), "thin": each.images < thin})
    else:
        _print_labels(found, thin)


def confusions_text(counts: Mapping[str, int]) -> str:
    """Format the labels that a class is confused with, escaped for Rich."""
    from rich.markup import escape

    return escape(", ".join(f"{label} {number}" for label, number in counts.items()))


def _print_labels(found: "Sequence[LabelCount]", thin: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    from visual_memory.services.cli.terminal_output import console

    table = Table("class", "images", "accuracy", "confused with", "", box=None, padding=(0, 2))
    for each in found:
        accuracy = "not judged" if each.accuracy is None else f"{each.accuracy:.1%}"
        confusions = confusions_text(each.confused_with or {})
        table.add_row(escape(each.label), str(each.images), accuracy, confusions, "thin" if each.images < thin else "")
    console.print(table)
