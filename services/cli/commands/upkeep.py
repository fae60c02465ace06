"""The operator's commands: they work on the store, the pictures and the records themselves, not over the API."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.shared_options import BY, EVERYBODY, FAILED, AsJson, errors, own_data, print_json

if TYPE_CHECKING:
    from visual_memory.services.backup.restore_backup import RestoreResult
    from visual_memory.services.bootstrap.operator_commands import OperatorCommands
    from visual_memory.services.receipts.verification.verify_removals import Findings


def compact(as_json: AsJson = False) -> None:
    """Erase from the disk what was removed, and seal that into the receipts."""
    with errors(), _operator("compact") as operator:
        done = operator.compact()
    if as_json:
        print_json({"erased": done.erased, "note": done.note})
    else:
        typer.echo("What was removed is erased from the disk." if done.erased else "The store was asked to erase.")
        typer.echo(done.note, nl=bool(done.note))


def verify_removals(
    receipts: Annotated[list[Path] | None, typer.Argument(help="Receipts that were handed out, as JSON files.")] = None,
    remove_again: Annotated[bool, typer.Option("--remove-again", help="Remove what has come back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold every receipt against the signed log, and everything in the memory against the removals."""
    with errors(), _operator("verify-removals") as operator:
        found = operator.verify([path.read_text() for path in receipts or []])
        if remove_again:
            operator.verify.remove_again(found)
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


def backup(
    file: Annotated[Path, typer.Argument(help="The new file; nothing is replaced.")], as_json: AsJson = False
) -> None:
    """Write points, pictures and records into one file, while the service runs or not."""
    with errors(), _operator("backup") as operator:
        contents = operator.backup(file)
    if as_json:
        print_json(contents.model_dump())
    else:
        typer.echo(f"{file}: {contents.points} images, {contents.pictures} pictures, {contents.records} records")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote.", exists=True, dir_okay=False)],
    folder: Annotated[Path | None, typer.Argument(help="A new data folder; left out with --rehearse.")] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Restore into a folder that is deleted again.")] = False,
    without_later_removals: Annotated[
        bool, typer.Option("--without-later-removals", help="Without a mirror; it is written to the log of receipts.")
    ] = False,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Keys open what they opened; else all come back revoked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring back a backup into a new folder, without what was removed since; check it, and say what is wrong."""
    if (folder is None) != rehearse:
        raise typer.BadParameter("name a new folder, or say --rehearse")
    with errors(), ExitStack() as opened:
        place = folder or Path(opened.enter_context(TemporaryDirectory(prefix="visual-memory-rehearsal-"))) / "data"
        restored, found = _restored(file, place, rehearse, without_later_removals, with_keys)
    if as_json:
        told = {"left_out": restored.left_out, "later": restored.later_removals, "unfinished": restored.unfinished}
        print_json({**restored.contents.model_dump(), **told, "faults": found.faults})
    else:
        typer.echo(f"{restored.contents.points} images are back; {restored.left_out} were removed since and stay away")
        for each in restored.unfinished:
            typer.echo(f"removal {each} was asked for since, and what it was to cover is not known: ask for it again")
        for fault in found.faults:
            typer.echo(f"  {fault}")
    if found.faults:
        raise typer.Exit(FAILED)


def _restored(
    file: Path, folder: Path, rehearsal: bool, without_later_removals: bool, with_keys: bool
) -> "tuple[RestoreResult, Findings]":
    from visual_memory.services.bootstrap.restore_command import restore_command, restored_settings

    own = own_data()
    with restore_command(restored_settings(own, folder, rehearsal), file, own.data, rehearsal) as command:
        restored = command.restore(command.source, without_later_removals, with_keys)
        command.audit.write(EVERYBODY, BY, "restore", images=restored.contents.points)
        return restored, command.verify()


@contextmanager
def operator(alone: bool = False) -> "Iterator[OperatorCommands]":
    """What commands of an operator work with."""
    from visual_memory.services.bootstrap.operator_commands import operator_commands

    with operator_commands(own_data(), alone) as commands:
        yield commands


@contextmanager
def _operator(action: str, alone: bool = False) -> "Iterator[OperatorCommands]":
    """What the command works with; the audit log has a line of it, of no tenant in particular."""
    from visual_memory.services.bootstrap.operator_commands import operator_commands
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    settings = own_data()
    with (
        records_of(settings) as database,
        audit_of(settings, database).deed(EVERYBODY, BY, action),
        operator_commands(settings, alone) as operator,
    ):
        yield operator
