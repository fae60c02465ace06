"""The commands. What a command needs is imported when it runs, so that ``--help`` is quick.

Exit codes: 0 all went well; 1 the service refused or failed; 2 the command was given wrongly; 3 some pictures were
refused or rejected, the others are in.
"""

import typer

from visual_memory.services.cli.commands import (
    curate,
    decisions,
    encoders,
    evaluate,
    every_day,
    intake,
    keys,
    processes,
    receipts,
    steward,
    upkeep,
    watch,
)
from visual_memory.services.infrastructure.processes.forbid_tracing import forbid_tracing
from visual_memory.services.infrastructure.storage.private_files import forbid_others

app = typer.Typer(
    name="visual-memory",
    help="An image classifier that you teach by showing and un-teach by asking.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; every foreseen error is one sentence and an exit code."""
    forbid_others()
    forbid_tracing()
    app()


app.command()(every_day.demo)
app.command()(processes.up)
app.command()(every_day.add)
app.command()(watch.watch)
app.command()(every_day.classify)
app.command()(every_day.remove)
app.command()(evaluate.evaluate)
app.command()(every_day.status)
app.command()(every_day.audit)
app.command()(curate.judge)
app.command()(curate.suspects)
app.command()(curate.labels)
app.command("decisions")(decisions.list_decisions)
app.command()(decisions.explain)
app.command()(decisions.influence)
app.command()(upkeep.compact)
app.command()(upkeep.verify_removals)
app.command()(receipts.verify_receipt)
app.command()(upkeep.backup)
app.command()(upkeep.restore)
app.command()(steward.export)
app.command()(processes.api)
app.command()(processes.worker)
app.command()(processes.jobs)
app.command()(processes.beat)
app.command()(processes.engine)
app.command()(processes.intake_reader)
app.add_typer(keys.app, name="keys")
app.add_typer(receipts.app, name="receipts")
app.add_typer(steward.app, name="tenants")
app.add_typer(curate.app, name="curate")
app.add_typer(encoders.app, name="encoder")
app.add_typer(intake.app, name="intake")
