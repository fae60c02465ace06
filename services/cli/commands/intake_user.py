"""The group `intake user`: users of the intake's Redis, each for one tenant and one kind of stream."""

from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import ACTOR, intake_commands
from visual_memory.services.cli.shared_options import AsJson, print_json

app = typer.Typer(help="Make, list and remove users of the intake's Redis.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]

_MAY = {"send": "send images to", "removals": "send removals to", "results": "read"}
_UNSAVED = "The server loses this change at its next start, because it could not save its users ({why})."


@app.command()
def add(
    name: Name,
    tenant: Annotated[str, typer.Option(help="The tenant whose stream the user may use.")] = "default",
    removals: Annotated[bool, typer.Option("--removals", help="It may request removals, and nothing else.")] = False,
    results: Annotated[bool, typer.Option("--results", help="It may read results, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a user that may only send images to one tenant; print its password, which is shown only once."""
    from visual_memory.schemas.api_key import check_tenant
    from visual_memory.services.infrastructure.redis_streams.stream_users import Role

    if removals and results:
        raise typer.BadParameter("--removals and --results: make two users, each may do one thing")
    role = Role.REMOVALS if removals else Role.RESULTS if results else Role.SEND
    with (
        exit_on_error(),
        intake_commands() as intake,
        intake.audit.recorded_action(check_tenant(tenant), ACTOR, "intake.users.add", intake_user=name),
    ):
        new = intake.users.add(name, tenant, role)
    if as_json:
        made = {"name": name, "tenant": tenant, "role": role, "stream": new.user.stream, "password": new.password}
        print_json({**made, "unsaved": new.unsaved, "rule": new.rule})
        return
    typer.echo(f"{name} may {_MAY[role]} {new.user.stream}; its password is shown only once:", err=True)
    typer.echo(new.password)
    if new.unsaved:
        typer.echo(f"{_UNSAVED.format(why=new.unsaved)} Add this line to its file of users (aclfile):", err=True)
        typer.echo(new.rule, err=True)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List the users that this service made, with their tenants and what they may do."""
    with exit_on_error(), intake_commands() as intake:
        found = intake.users.all()
    for each in found:
        if as_json:
            print_json({"name": each.name, "tenant": each.tenant, "role": each.role, "stream": each.stream})
        else:
            typer.echo(f"{each.name}  may {_MAY[each.role]} {each.stream}")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Delete a user; its connections are closed at once."""
    with exit_on_error(), intake_commands() as intake:
        found = intake.users.named(name)
        with intake.audit.recorded_action(found.tenant, ACTOR, "intake.users.remove", intake_user=name):
            unsaved = intake.users.remove(name)
    if as_json:
        print_json({"name": name, "tenant": found.tenant, "unsaved": unsaved})
        return
    typer.echo(f"{name} has no access any more")
    if unsaved:
        typer.echo(f"{_UNSAVED.format(why=unsaved)} Delete the user from its file of users (aclfile).", err=True)
