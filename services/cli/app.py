"""The command ``visual-memory``: every command, in the order of ``--help``.

Commands import what they need when they run, so that ``--help`` is quick.

Exit codes: 0 success; 1 the service refused or failed; 2 wrong usage; 3 some pictures were refused or rejected, and
the others are stored.
"""

import sys

import typer

from visual_memory.services.cli.commands import (
    curate,
    decisions,
    encoder,
    intake,
    job,
    keys,
    processes,
    receipts,
    review,
    tenants,
)
from visual_memory.services.cli.commands.add import add
from visual_memory.services.cli.commands.audit import audit
from visual_memory.services.cli.commands.backup import backup, restore
from visual_memory.services.cli.commands.classify import classify
from visual_memory.services.cli.commands.compact import compact
from visual_memory.services.cli.commands.demo import demo
from visual_memory.services.cli.commands.evaluate import evaluate
from visual_memory.services.cli.commands.events import events
from visual_memory.services.cli.commands.export import export
from visual_memory.services.cli.commands.images import images
from visual_memory.services.cli.commands.judge import judge
from visual_memory.services.cli.commands.labels import labels
from visual_memory.services.cli.commands.remove import preview_removal, remove
from visual_memory.services.cli.commands.status import status
from visual_memory.services.cli.commands.suspects import suspects
from visual_memory.services.cli.commands.up import up
from visual_memory.services.cli.commands.verify_removals import verify_removals
from visual_memory.services.cli.commands.watch import watch
from visual_memory.services.cli.exit_codes import USAGE_ERROR
from visual_memory.services.infrastructure.processes.prctl import forbid_tracing
from visual_memory.services.infrastructure.storage.owner_only_files import forbid_others
from visual_memory.services.optional_packages import MissingExtra, explain_missing

app = typer.Typer(
    name="visual-memory",
    help="An image classifier that you teach by showing and un-teach by asking.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a command whose packages are not installed prints which, and exits with code 2."""
    forbid_others()
    forbid_tracing()
    try:
        app()
    except ImportError as error:
        words = ["visual-memory", *(word for word in sys.argv[1:] if not word.startswith("-"))][:2]
        message = str(error) if isinstance(error, MissingExtra) else explain_missing(" ".join(words), error.name or "")
        if message is None:
            raise
        typer.echo(message, err=True)
        sys.exit(USAGE_ERROR)


app.command()(demo)
app.command()(up)
app.command()(add)
app.command()(watch)
app.command()(images)
app.command()(classify)
app.command()(preview_removal)
app.command()(remove)
app.command()(evaluate)
app.command()(status)
app.command()(audit)
app.command()(events)
app.command()(judge)
app.command()(suspects)
app.command()(labels)
app.command()(compact)
app.command()(verify_removals)
app.command()(receipts.verify_receipt)
app.command()(backup)
app.command()(restore)
app.command()(export)
app.command()(processes.api)
app.command()(processes.worker)
app.command()(processes.jobs)
app.command()(processes.beat)
app.command()(processes.engine)
app.command()(processes.intake_reader)
app.add_typer(keys.app, name="keys")
app.add_typer(receipts.app, name="receipts")
app.add_typer(tenants.app, name="tenants")
app.add_typer(curate.app, name="curate")
app.add_typer(decisions.app, name="decisions")
app.add_typer(review.app, name="review")
app.add_typer(encoder.app, name="encoder")
app.add_typer(intake.app, name="intake")
app.add_typer(job.app, name="job")
