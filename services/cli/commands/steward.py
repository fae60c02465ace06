"""The data steward's commands: what is held of a subject, and a tenant's end."""

from pathlib import Path
from typing import Annotated

import typer

from visual_memory.services.cli.commands.upkeep import operator
from visual_memory.services.cli.shared_options import BY, AsJson, errors, print_json

Tenant = Annotated[str, typer.Option(help="Whose memory.")]

app = typer.Typer(help="Tenants: end one.", no_args_is_help=True)


def export(
    file: Annotated[Path, typer.Argument(help="The new zip file; nothing is replaced.")],
    subject: Annotated[str, typer.Option(help="Whom the images show.")],
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Write what is held of a subject: images with all fields, pictures, decisions, and what waits in the intake."""
    from visual_memory.schemas.text_rules import respelled

    named = respelled(subject)
    with errors(), operator() as commands:
        commands.audit.write(tenant, BY, "export", subjects=[named])
        held = commands.export(tenant, named, file)
    if as_json:
        print_json(vars(held))
        return
    found = f"{held.images} images, {held.pictures} pictures, {held.decisions} stored decisions"
    typer.echo(f"{file}: {found}, {held.waiting} entries of the intake")
    if held.refused:
        typer.echo("A removal refuses this subject from now on.")


@app.command()
def end(
    tenant: Annotated[str, typer.Argument(help="The tenant; all that it has goes.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the receipt.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a tenant: revoke its keys, remove its images, delete its records; print the receipt."""
    from visual_memory.schemas.receipt import Requester

    if not yes:
        typer.confirm(f"Everything that {tenant} has goes for ever. Go on?", abort=True)
    with errors(), operator() as commands:
        entry = commands.end_tenant(tenant, Requester(name=BY), reason)
    typer.echo(entry.text)
