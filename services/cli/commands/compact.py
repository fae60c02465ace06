"""Erase from the disk what was removed."""

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import operator_commands
from visual_memory.services.cli.shared_options import AsJson, print_json


def compact(as_json: AsJson = False) -> None:
    """Erase removed data from the disk, and add the erasure receipts."""
    with exit_on_error(), operator_commands("compact") as commands:
        done = commands.compact()
    if as_json:
        print_json({"erased": done.erased, "note": done.note})
    else:
        typer.echo(
            "What was removed is erased from the disk." if done.erased else "The store was requested to erase it."
        )
        typer.echo(done.note, nl=bool(done.note))
