"""Settings and data folder of the service on this machine, for commands that do not use the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from visual_memory.services.cli.exit_codes import USAGE_ERROR, exit_on_error

if TYPE_CHECKING:
    from pathlib import Path

    from visual_memory.services.bootstrap.encoder_commands import EncoderCommands
    from visual_memory.services.bootstrap.intake_commands import IntakeCommands
    from visual_memory.services.bootstrap.operator_commands import OperatorCommands
    from visual_memory.services.settings import Settings

ACTOR = "command line"
"""Who acted, in the audit log and in receipts."""
ALL_TENANTS = "*"
"""The tenant of audit log entries that concern every tenant; no tenant can have this name."""


def local_settings() -> "Settings":
    """Load the settings, and check that only this user can read the data folder and the secret."""
    from visual_memory.services.access.signing_secret import load_secret
    from visual_memory.services.infrastructure.storage.owner_only_files import private_folder
    from visual_memory.services.optional_packages import check_installed

    settings = read_settings()
    check_installed(settings)
    with exit_on_error():
        private_folder(settings.data.resolve())  # it may be a link to another disk
        load_secret(settings)
    return settings


def read_settings(data: "Path | None" = None) -> "Settings":
    """Load the settings; invalid ones print a message each and exit with code 2.

    Args:
        data: replaces the data folder of the settings.
    """
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from visual_memory.schemas.validation_faults import list_faults
    from visual_memory.services.settings import Settings

    try:
        return Settings() if data is None else Settings(data=data)
    except ValidationError as error:
        faults = [str(fault) for fault in list_faults(error)]
    except TOMLDecodeError as error:
        faults = [f"the settings file is not TOML: {error}"]
    except SettingsError as error:  # a missing file, or a value that should be JSON
        faults = [f"{error}: write it as JSON" if error.__cause__ else str(error)]
    for fault in faults:
        typer.echo(f"settings: {fault}", err=True)
    raise typer.Exit(USAGE_ERROR)


@contextmanager
def operator_commands(action: str | None = None) -> "Iterator[OperatorCommands]":
    """Open the store, the pictures and the records of this machine.

    Args:
        action: writes an entry for all tenants into the audit log; None: no entry.
    """
    from visual_memory.services.bootstrap import operator_commands as bootstrap

    with _audited(action) as settings, bootstrap.operator_commands(settings) as commands:
        yield commands


@contextmanager
def encoder_commands(action: str | None = None) -> "Iterator[EncoderCommands]":
    """Open the encoders of the memory of this machine.

    Args:
        action: as of `operator_commands`.
    """
    from visual_memory.services.bootstrap import encoder_commands as bootstrap

    with _audited(action) as settings, bootstrap.encoder_commands(settings) as commands:
        yield commands


@contextmanager
def intake_commands() -> "Iterator[IntakeCommands]":
    """Open the intake of this machine."""
    from visual_memory.services.bootstrap import intake_commands as bootstrap

    with bootstrap.intake_commands(local_settings()) as commands:
        yield commands


@contextmanager
def _audited(action: str | None) -> "Iterator[Settings]":
    """Load the settings; with an action, write an audit log entry that says how it ended."""
    from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of

    settings = local_settings()
    if action is None:
        yield settings
        return
    with records_of(settings) as database, audit_of(settings, database).recorded_action(ALL_TENANTS, ACTOR, action):
        yield settings
