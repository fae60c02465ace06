"""The exit codes of the commands, and errors turned into a message and an exit code."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from visual_memory.schemas.fault import Fault

FAILED = 1
USAGE_ERROR = 2
PARTIAL = 3


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an expected error into a message on standard error and exit code 1."""
    from pydantic import ValidationError

    from visual_memory.schemas.errors import VisualMemoryError
    from visual_memory.schemas.validation_faults import list_faults

    try:
        yield
    except VisualMemoryError as error:
        fail("\n".join([f"{error.message} ({error.code})", *_several(error.errors)]))
    except ValidationError as error:
        fail("\n".join(map(str, list_faults(error))))
    except OSError as error:
        fail(str(error))


def _several(faults: "Sequence[Fault]") -> list[str]:
    """A line for each fault where there are several; the message names a single one."""
    return [f"  {fault}" for fault in faults] if len(faults) > 1 else []


def fail(message: str) -> NoReturn:
    """Print a message on standard error and exit with code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(FAILED)
