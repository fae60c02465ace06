"""The operator's commands for the intake: how to send, who may, and what could not be accepted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.shared_options import BY, AsJson, errors, own_data, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.dead_letter import ShownDeadLetter
    from visual_memory.services.bootstrap.intake_commands import IntakeCommands

app = typer.Typer(help="The streams that producers send to without HTTP.", no_args_is_help=True)
user = typer.Typer(help="Users of the intake's Redis: make, list and remove them.", no_args_is_help=True)
dead = typer.Typer(help="What was sent and could not be accepted.", no_args_is_help=True)
app.add_typer(user, name="user")
app.add_typer(dead, name="dead")

SHOWN_AT_ONCE = 50
"""Dead letters that are held at once: each holds its original."""

Tenant = Annotated[str, typer.Option(help="Whose memory.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters, as 'intake dead list' shows them.")]
All = Annotated[bool, typer.Option("--all", help="All that are there now; in place of ids.")]


@app.command()
def show(tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Where the intake is, what its streams are called, and how to send."""
    from visual_memory.schemas.api_key import check_tenant
    from visual_memory.services.cli import intake_instructions
    from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

    with errors():
        settings = own_data()
        found = intake_instructions.intake_access(settings, StreamKeys(settings.intake.prefix), check_tenant(tenant))
    if as_json:
        print_json(found.as_dict())
    else:
        intake_instructions.say(found, tenant)


@user.command()
def add(
    name: Name,
    tenant: Tenant = "default",
    removals: Annotated[bool, typer.Option("--removals", help="It may ask for removals, and nothing else.")] = False,
    results: Annotated[bool, typer.Option("--results", help="It may read results, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a user who may send images to one tenant, and nothing else; print its password this once."""
    from visual_memory.schemas.api_key import check_tenant
    from visual_memory.services.infrastructure.redis_streams.stream_users import Role

    if removals and results:
        raise typer.BadParameter("--removals and --results: make two users, each may do one thing")
    role = Role.REMOVALS if removals else Role.RESULTS if results else Role.SEND
    with (
        errors(),
        _intake() as intake,
        intake.audit.deed(check_tenant(tenant), BY, "intake.users.add", intake_user=name),
    ):
        new = intake.users.add(name, tenant, role)
    if as_json:
        made = {"name": name, "tenant": tenant, "role": role, "stream": new.user.stream, "password": new.password}
        print_json({**made, "unsaved": new.unsaved, "rule": new.rule})
        return
    typer.echo(f"{name} may {_MAY[role]} {new.user.stream}; its password is shown only once:", err=True)
    typer.echo(new.password)
    if new.unsaved:
        typer.echo(f"{_FORGETS.format(why=new.unsaved)} Add this line to its file of users (aclfile):", err=True)
        typer.echo(new.rule, err=True)


_MAY = {"send": "send images to", "removals": "send removals to", "results": "read"}
_FORGETS = "The server forgets this at its next start, because it could not save its users ({why})."


@user.command(name="list")
def list_users(as_json: AsJson = False) -> None:
    """Every user that was made here, with its tenant and what it may do."""
    with errors(), _intake() as intake:
        found = intake.users.all()
    for each in found:
        if as_json:
            print_json({"name": each.name, "tenant": each.tenant, "role": each.role, "stream": each.stream})
        else:
            typer.echo(f"{each.name}  may {_MAY[each.role]} {each.stream}")


@user.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Delete a user; its connections end at once."""
    with errors(), _intake() as intake:
        found = intake.users.named(name)
        with intake.audit.deed(found.tenant, BY, "intake.users.remove", intake_user=name):
            unsaved = intake.users.remove(name)
    if as_json:
        print_json({"name": name, "tenant": found.tenant, "unsaved": unsaved})
        return
    typer.echo(f"{name} may do nothing any more")
    if unsaved:
        typer.echo(f"{_FORGETS.format(why=unsaved)} Delete the user from its file of users (aclfile).", err=True)


@dead.command(name="list")
def list_dead(tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """What could not be accepted, the oldest first, with the reason; --json shows the originals too."""
    from visual_memory.services.intake.streams.dead_letters import subjects_of

    with errors(), _intake() as intake:
        left = intake.dead.all(tenant)
        while letters := [*islice(left, SHOWN_AT_ONCE)]:
            intake.audit.write(tenant, BY, "read", subjects_of(letters), images=len(letters))
            _show_dead(letters, as_json)


def _show_dead(letters: "Iterable[ShownDeadLetter]", as_json: bool) -> None:
    for letter in letters:
        if as_json:
            print_json(letter.model_dump(mode="json"))
        else:
            tried = f", tried {letter.deliveries} times" if letter.deliveries > 1 else ""
            typer.echo(f"{letter.id}  {letter.status}{tried}: {letter.reason}")


@dead.command()
def replay(ids: Ids = None, everything: All = False, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Put originals back on their stream, to be tried again; they stay as old as they are for removals."""
    wanted = _wanted(ids, everything)
    with errors(), _intake() as intake, intake.audit.deed(tenant, BY, "intake.dead.replay") as said:
        replayed = intake.dead.replay(tenant, wanted)
        said["images"] = len(replayed)
    if as_json:
        print_json({"replayed": replayed})
    else:
        typer.echo(f"{len(replayed)} were put back")


@dead.command()
def drop(ids: Ids = None, everything: All = False, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Delete dead letters with their originals."""
    wanted = _wanted(ids, everything)
    with errors(), _intake() as intake, intake.audit.deed(tenant, BY, "intake.dead.drop") as said:
        said["images"] = dropped = intake.dead.drop(tenant, wanted)
    if as_json:
        print_json({"dropped": dropped})
    else:
        typer.echo(f"{dropped} were deleted")


def _wanted(ids: list[str] | None, everything: bool) -> list[str] | None:
    if bool(ids) == everything:
        raise typer.BadParameter("name ids, or say --all")
    return None if everything else ids


@contextmanager
def _intake() -> "Iterator[IntakeCommands]":
    from visual_memory.services.bootstrap.intake_commands import intake_commands

    with intake_commands(own_data()) as commands:
        yield commands
