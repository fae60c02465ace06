"""The commands of ``visual-memory`` within the process of the tests: to start Python for each takes a second."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from typer.testing import CliRunner

from visual_memory.services.cli.app import app


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*words: str, settings: Mapping[str, str], answer: str = "") -> Ended:
    """Run a command to its end; an exception that a user would see as a traceback is raised.

    Args:
        words: its arguments.
        settings: its environment variables; those of the service that this process has are not given.
        answer: what it reads from its standard input.
    """
    others = {name: None for name in os.environ if name.startswith("VISUAL_MEMORY_")}
    done = CliRunner().invoke(app, words, input=answer, env={**others, **settings})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)
