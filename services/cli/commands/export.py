"""Export all data of a subject into a zip file (the right of access)."""

from pathlib import Path
from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import ACTOR, operator_commands
from visual_memory.services.cli.shared_options import AsJson, print_json


def export(
    file: Annotated[Path, typer.Argument(help="The new zip file; an existing file is not overwritten.")],
    subject: Annotated[str, typer.Option(help="The subject that the images show.")],
    tenant: Annotated[str, typer.Option(help="The tenant that stores them.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Export all data of a subject: images with their fields, pictures, decisions, and entries of the intake."""
    from visual_memory.schemas.text_rules import respelled

    normalised = respelled(subject)
    with exit_on_error(), operator_commands() as commands:
        commands.audit.write(tenant, ACTOR, "export", subjects=[normalised])
        exported = commands.export(tenant, normalised, file)
    if as_json:
        print_json(vars(exported))
        return
    counts = f"{exported.images} images, {exported.pictures} pictures, {exported.decisions} stored decisions"
    typer.echo(f"{file}: {counts}, {exported.changes} former states, {exported.waiting} entries of the intake")
    if exported.refused:
        typer.echo("A removal refuses this subject from now on.")
