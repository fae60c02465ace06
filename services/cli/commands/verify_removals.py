"""Check all removals: receipts against the signed log, and stored data against the removals."""

from pathlib import Path
from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import FAILED, exit_on_error
from visual_memory.services.cli.local_data import operator_commands
from visual_memory.services.cli.shared_options import AsJson, print_json


def verify_removals(
    receipts: Annotated[list[Path] | None, typer.Argument(help="Receipts to check too, as JSON files.")] = None,
    remove_again: Annotated[
        bool, typer.Option("--remove-again", help="Remove images that a removal covers and that are stored again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every receipt against the signed log, and all stored data against the removals."""
    with exit_on_error(), operator_commands("verify-removals") as commands:
        found = commands.verify([path.read_text() for path in receipts or []])
        if remove_again:
            commands.verify.remove_again(found)
    if as_json:
        counts = {"removals": found.removals, "running": found.running, "unerased": found.unerased}
        print_json({**counts, "images": found.images, "faults": found.faults})
    else:
        typer.echo(
            f"{found.removals} removals ({found.running} running, {found.unerased} not compacted yet),"
            f" {found.images} images: {len(found.faults)} faults"
        )
        for fault in found.faults:
            typer.echo(f"  {fault}")
    if found.faults:
        raise typer.Exit(FAILED)
