"""Commands over stored decisions."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.explanation import Counterfactual, ExplanationJob, Influence, Replay
    from visual_memory.schemas.stored_decision import StoredDecision
    from visual_memory.services.client.http_client import Client

POLL = 0.5


def list_decisions(
    limit: Annotated[int, typer.Option(help="How many, the latest first.")] = 20,
    label: Annotated[str | None, typer.Option(help="Of this label alone.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The stored decisions: those that were asked for with --store."""
    with exit_on_error(), connect(url, key) as client:
        found = client.decisions(limit, label)
    for each in found:
        if as_json:
            print_json(each.model_dump(mode="json"))
        else:
            scrubbed = f", {each.scrubbed} scrubbed" * bool(each.scrubbed)
            typer.echo(f"{each.id}  {each.label}  margin {each.margin:.0%}, {each.voters} voted{scrubbed}")


def explain(
    decision_id: Annotated[str, typer.Argument(help="The decision's id.")],
    without: Annotated[list[str] | None, typer.Option(help="An image that shall not vote; may be repeated.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """A stored decision: who voted, what is different today, and which images it hangs on."""
    from visual_memory.schemas.explanation import ReplayRequest

    with exit_on_error(), connect(url, key) as client:
        stored = client.decision(decision_id)
        if not as_json:
            # first, for a memory that was not judged again yet may be unable to say the rest
            _stored(decision_id, stored)
        replay = client.replay(decision_id, ReplayRequest(without=without or []))
        counterfactual = _counterfactual_of(client, decision_id, quiet=as_json)
    if as_json:
        parts = {"stored": stored, "replay": replay, "counterfactual": counterfactual}
        print_json({name: part.model_dump(mode="json") for name, part in parts.items()})
        return
    _replay(replay)
    _counterfactual(counterfactual)


def influence(
    last: Annotated[int, typer.Option(help="Of so many decisions, the latest.")] = 1000,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Which images, labels and sources decide most of the stored decisions."""
    with exit_on_error(), connect(url, key) as client:
        found = _influence_of(client, last, quiet=as_json)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _influence(found)


def _counterfactual_of(client: "Client", decision_id: str, *, quiet: bool) -> "Counterfactual":
    from visual_memory.schemas.explanation import Counterfactual

    found = client.counterfactual(decision_id)
    answer = found if isinstance(found, Counterfactual) else _followed(client, found, quiet=quiet).counterfactual
    if answer is None:
        fail("no counterfactual was found: ask again")
    return answer


def _influence_of(client: "Client", last: int, *, quiet: bool) -> "Influence":
    from visual_memory.schemas.explanation import Influence

    found = client.influence(last)
    answer = found if isinstance(found, Influence) else _followed(client, found, quiet=quiet).influence
    if answer is None:
        fail("no influence was found: ask again")
    return answer


def _followed(client: "Client", job: "ExplanationJob", *, quiet: bool) -> "ExplanationJob":
    """Show how far a job is until it is done."""
    from visual_memory.schemas.background_job import JobState
    from visual_memory.services.cli.terminal_output import progress_bar

    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("waiting", total=None)
        while job.state is not JobState.DONE:
            if job.state is JobState.FAILED:
                fail(f"the {job.kind} could not be found: {job.error}")
            progress.update(task, description=job.stage or "waiting", completed=job.done, total=job.total or None)
            time.sleep(POLL)
            job = client.question(job.id)
    return job


def _stored(decision_id: str, found: "StoredDecision") -> None:
    from visual_memory.services.cli.decision_output import print_decision

    print_decision(decision_id, found.decision, found.options)
    if found.scrubbed:
        typer.echo(f"neighbours that are gone: {found.scrubbed}; the votes were counted again without them")


def _replay(found: "Replay") -> None:
    if found.changed:
        typer.echo(f"today: {found.decision.label} instead of {found.before}")
    else:
        typer.echo(f"today: {found.decision.label} again")
    for each in found.came:
        typer.echo(f"  came    {each.image_id} ({', '.join(each.labels)}), share {each.share:.1%}")
    for gone in found.gone:
        typer.echo(f"  gone    {gone.neighbour.image_id} ({', '.join(gone.neighbour.labels)}): {gone.why}")
    for other in found.relabelled:
        typer.echo(f"  labels  {other.image_id}: {', '.join(other.after)} instead of {', '.join(other.before)}")
    if found.reweighted:
        typer.echo(f"  weights are others for {len(found.reweighted)} of those that voted then too")


def _counterfactual(found: "Counterfactual") -> None:
    if found.reason is not None:
        typer.echo(found.reason)
        return
    fewest = "there may be fewer that would do" if found.truncated else "no fewer would do"
    typer.echo(f"without these it would be {found.becomes}, and {fewest}:")
    for each in found.images:
        typer.echo(f"  {each.image_id} ({', '.join(each.labels)}), similarity {each.similarity:.4f}, rank {each.rank}")


def _influence(found: "Influence") -> None:
    typer.echo(f"of {found.decisions} decisions")
    for each in found.images:
        typer.echo(f"  {each.share:8.2f}  in {each.decisions}  {each.image_id} ({', '.join(each.labels)})")
    for title, weights in (("labels", found.labels), ("sources", found.sources)):
        typer.echo(title)
        for weight in weights:
            typer.echo(f"  {weight.share:8.2f}  {weight.name or '(none)'}")
