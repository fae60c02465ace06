"""Run the demo, whose steps are in `demo_steps`."""

from pathlib import Path
from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error


def demo(
    data: Annotated[
        Path | None, typer.Argument(help="FOLDER holding LABEL/*.jpg; default: handwritten digits.")
    ] = None,
) -> None:
    """See it work: start everything, teach, ask, teach a new class, forget, stop everything."""
    from visual_memory.services.cli.demo_steps import run

    with exit_on_error():
        run(data)
