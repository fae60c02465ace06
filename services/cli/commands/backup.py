"""Write a backup of all data into one file, and restore it into a new data folder."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import FAILED, exit_on_error
from visual_memory.services.cli.local_data import ACTOR, ALL_TENANTS, local_settings, operator_commands
from visual_memory.services.cli.shared_options import AsJson, print_json

if TYPE_CHECKING:
    from visual_memory.services.backup.restore_backup import RestoreResult
    from visual_memory.services.removal.verify_removals import Findings


def backup(
    file: Annotated[Path, typer.Argument(help="The new file; an existing file is not overwritten.")],
    as_json: AsJson = False,
) -> None:
    """Write points, pictures and records into one file; the service may run meanwhile."""
    with exit_on_error(), operator_commands("backup") as commands:
        contents = commands.backup(file)
    if as_json:
        print_json(contents.model_dump())
    else:
        typer.echo(f"{file}: {contents.points} images, {contents.pictures} pictures, {contents.records} records")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote.", exists=True, dir_okay=False)],
    folder: Annotated[Path | None, typer.Argument(help="A new data folder; omit it with --rehearse.")] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Restore into a temporary folder, to check the backup.")
    ] = False,
    without_later_removals: Annotated[
        bool,
        typer.Option(
            "--without-later-removals", help="Restore without a mirror of removals; the receipt log records this."
        ),
    ] = False,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Keep API keys valid; by default all are restored as revoked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a new folder, without what was removed since; check the result, and report faults."""
    if (folder is None) != rehearse:
        raise typer.BadParameter("name a new folder, or say --rehearse")
    with exit_on_error(), ExitStack() as stack:
        target = folder or Path(stack.enter_context(TemporaryDirectory(prefix="visual-memory-rehearsal-"))) / "data"
        restored, found = _restore(file, target, rehearse, without_later_removals, with_keys)
    if as_json:
        removals = {"left_out": restored.left_out, "later": restored.later_removals, "unfinished": restored.unfinished}
        print_json({**restored.contents.model_dump(), **removals, "faults": found.faults})
    else:
        typer.echo(f"{restored.contents.points} images restored; {restored.left_out} were removed since, and left out")
        for each in restored.unfinished:
            typer.echo(f"removal {each} was requested since, and what it covers is unknown: request it again")
        for fault in found.faults:
            typer.echo(f"  {fault}")
    if found.faults:
        raise typer.Exit(FAILED)


def _restore(
    file: Path, folder: Path, rehearsal: bool, without_later_removals: bool, with_keys: bool
) -> "tuple[RestoreResult, Findings]":
    from visual_memory.services.bootstrap.restore_command import restore_command, restored_settings

    own = local_settings()
    with restore_command(restored_settings(own, folder, rehearsal), file, own.data, rehearsal) as command:
        restored = command.restore(command.source, without_later_removals, with_keys)
        command.audit.write(ALL_TENANTS, ACTOR, "restore", images=restored.contents.points)
        return restored, command.verify()
