"""The group `job`: list, show and cancel background jobs; `visual-memory jobs` is the process that runs them."""

from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.background_job import Job

app = typer.Typer(help="List, show and cancel background jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as 'job list' shows it.")]


@app.command(name="list")
def list_(
    kind: Annotated[
        str | None, typer.Option(help="Only one kind: evaluation, judgement, counterfactual or influence.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Only one state: collecting, waiting, running, done, failed or cancelled.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs that the key sees, the latest first."""
    from visual_memory.schemas.background_job import JobKind, JobState

    if kind is not None and kind not in set(JobKind):
        fail(f"there are no jobs of a kind {kind!r}: the kinds are {', '.join(JobKind)}")
    if state is not None and state not in set(JobState):
        fail(f"there is no state {state!r}: the states are {', '.join(JobState)}")
    with exit_on_error(), connect(url, key) as client:
        chosen = JobKind(kind) if kind else None, JobState(state) if state else None
        for job in client.iterate(client.jobs, *chosen):
            _print(job, as_json)


@app.command()
def show(job_id: JobId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show a job; with --json its result too."""
    with exit_on_error(), connect(url, key) as client:
        _print(client.job(job_id), as_json)


@app.command()
def cancel(job_id: JobId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Cancel a job: a waiting one never begins, a running one stops soon."""
    with exit_on_error(), connect(url, key) as client:
        _print(client.cancel_job(job_id), as_json)


def _print(job: "Job", as_json: bool) -> None:
    if as_json:
        print_json(job.model_dump(mode="json"))
        return
    progress = f"  {job.stage} {job.done} of {job.total}" if job.stage else ""
    reason = f"  {job.error}" if job.error else f"  by {job.cancelled_by}" * bool(job.cancelled_by)
    typer.echo(f"{job.id}  {job.kind}  {job.state}  {job.requested_at:%Y-%m-%d %H:%M}{progress}{reason}")
