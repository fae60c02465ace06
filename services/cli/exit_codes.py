"""The exit codes of the commands, and errors turned into a message and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

FAILED = 1
USAGE_ERROR = 2
PARTIAL = 3


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an expected error into a message on standard error and exit code 1."""
    from pydantic import ValidationError

    from visual_memory.schemas.errors import VisualMemoryError, sentence

    try:
        yield
    except VisualMemoryError as error:
        fail(f"{error.message} ({error.code})")
    except ValidationError as error:
        fail("; ".join(sentence(fault["loc"], fault["msg"]) for fault in error.errors()))
    except OSError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print a message on standard error and exit with code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(FAILED)
