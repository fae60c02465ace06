"""The group `intake dead`: list, replay and drop stream entries that could not be accepted."""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import ACTOR, intake_commands
from visual_memory.services.cli.shared_options import AsJson, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.dead_letter import ShownDeadLetter

PAGE = 50
"""Dead letters loaded at a time: each holds its original."""

app = typer.Typer(help="Entries that could not be accepted (dead letters).", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="The tenant of the entries.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters, as 'intake dead list' shows them.")]
All = Annotated[bool, typer.Option("--all", help="All current dead letters, instead of ids.")]


@app.command(name="list")
def list_(tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """List the dead letters with their reasons, the oldest first; --json also shows the originals."""
    from visual_memory.services.intake.streams.dead_letters import subjects_of

    with exit_on_error(), intake_commands() as intake:
        remaining = intake.dead.all(tenant)
        while letters := [*islice(remaining, PAGE)]:
            intake.audit.write(tenant, ACTOR, "read", subjects_of(letters), images=len(letters))
            _print_letters(letters, as_json)


@app.command()
def replay(ids: Ids = None, everything: All = False, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Put originals back on their stream; they keep their age, so that later removals still cover them."""
    selected = _selected_ids(ids, everything)
    with (
        exit_on_error(),
        intake_commands() as intake,
        intake.audit.recorded_action(tenant, ACTOR, "intake.dead.replay") as fields,
    ):
        replayed = intake.dead.replay(tenant, selected)
        fields["images"] = len(replayed)
    if as_json:
        print_json({"replayed": replayed})
    else:
        typer.echo(f"{len(replayed)} were put back")


@app.command()
def drop(ids: Ids = None, everything: All = False, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Delete dead letters with their originals."""
    selected = _selected_ids(ids, everything)
    with (
        exit_on_error(),
        intake_commands() as intake,
        intake.audit.recorded_action(tenant, ACTOR, "intake.dead.drop") as fields,
    ):
        fields["images"] = dropped = intake.dead.drop(tenant, selected)
    if as_json:
        print_json({"dropped": dropped})
    else:
        typer.echo(f"{dropped} were deleted")


def _selected_ids(ids: list[str] | None, everything: bool) -> list[str] | None:
    """Return the ids; None: all."""
    if bool(ids) == everything:
        raise typer.BadParameter("name ids, or say --all")
    return None if everything else ids


def _print_letters(letters: "Iterable[ShownDeadLetter]", as_json: bool) -> None:
    for letter in letters:
        if as_json:
            print_json(letter.model_dump(mode="json"))
        else:
            tried = f", tried {letter.deliveries} times" if letter.deliveries > 1 else ""
            typer.echo(f"{letter.id}  {letter.status}{tried}: {letter.reason}")
