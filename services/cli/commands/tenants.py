"""The group `tenants`: delete a tenant with all its data."""

from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import ACTOR, operator_commands
from visual_memory.services.cli.shared_options import Yes

app = typer.Typer(help="End a tenant.", no_args_is_help=True)


@app.command()
def end(
    tenant: Annotated[str, typer.Argument(help="The tenant; all its data is deleted.")],
    reason: Annotated[str, typer.Option(help="Reason, for the receipt.")],
    yes: Yes = False,
) -> None:
    """End a tenant: revoke its keys, remove its images, delete its records; print the receipt."""
    from visual_memory.schemas.receipt import Requester

    if not yes:
        typer.confirm(f"Delete all data of {tenant} for good?", abort=True)
    with exit_on_error(), operator_commands() as commands:
        entry = commands.end_tenant(tenant, Requester(name=ACTOR), reason)
    typer.echo(entry.text)
