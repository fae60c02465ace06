"""Stored decisions: list, show, replay and delete them, and show which images they depend on."""

from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error, fail
from visual_memory.services.cli.first_items import first_items
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.explanation import Counterfactual, Influence, Replay
    from visual_memory.schemas.job_with_result import JobWithResult
    from visual_memory.schemas.stored_decision import StoredDecision
    from visual_memory.services.client.http_client import Client

app = typer.Typer(
    help="Stored decisions: list, show, replay and delete them, and show which images they depend on.",
    no_args_is_help=True,
)

DecisionId = Annotated[str, typer.Argument(help="The decision's id.")]


@app.command("list")
def list_decisions(
    limit: Annotated[int, typer.Option(help="How many, the latest first.", min=1)] = 20,
    label: Annotated[str | None, typer.Option(help="Only decisions with this label.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List stored decisions, which were made with --store."""
    with exit_on_error(), connect(url, key) as client:
        found = list(first_items(client.decisions, limit, label))
    for each in found:
        if as_json:
            print_json(each.model_dump(mode="json"))
        else:
            scrubbed = f", {each.scrubbed} scrubbed" * bool(each.scrubbed)
            typer.echo(f"{each.id}  {each.label}  margin {each.margin:.0%}, {each.voters} voted{scrubbed}")


@app.command()
def show(decision_id: DecisionId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show a stored decision with its votes and neighbours."""
    with exit_on_error(), connect(url, key) as client:
        stored = client.decision(decision_id)
    if as_json:
        print_json(stored.model_dump(mode="json"))
    else:
        _print_stored(decision_id, stored)


@app.command()
def replay(
    decision_id: DecisionId,
    without: Annotated[
        list[str] | None, typer.Option(help="Id of an image to exclude from the vote; may be repeated.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Repeat a decision with today's memory, and show the differences."""
    from visual_memory.schemas.explanation import ReplayRequest

    with exit_on_error(), connect(url, key) as client:
        found = client.replay(decision_id, ReplayRequest(without=without or []))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_replay(found)


@app.command()
def counterfactual(decision_id: DecisionId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show the fewest images without which a decision would have another label."""
    with exit_on_error(), connect(url, key) as client:
        found = _counterfactual_of(client, decision_id, quiet=as_json)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_counterfactual(found)


@app.command()
def delete(decision_id: DecisionId, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Delete a stored decision for good."""
    with exit_on_error(), connect(url, key) as client:
        client.delete_decision(decision_id)


@app.command()
def influence(
    last: Annotated[int, typer.Option(help="How many decisions, the latest.")] = 1000,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show which images, labels and sources influence the stored decisions most."""
    with exit_on_error(), connect(url, key) as client:
        found = _influence_of(client, last, quiet=as_json)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_influence(found)


def _counterfactual_of(client: "Client", decision_id: str, *, quiet: bool) -> "Counterfactual":
    from visual_memory.schemas.explanation import Counterfactual

    found = client.counterfactual(decision_id)
    answer = found if isinstance(found, Counterfactual) else _wait_for_job(client, found, quiet=quiet).result
    if not isinstance(answer, Counterfactual):
        fail("no counterfactual was found: ask again")
    return answer


def _influence_of(client: "Client", last: int, *, quiet: bool) -> "Influence":
    from visual_memory.schemas.explanation import Influence

    found = client.influence(last)
    answer = found if isinstance(found, Influence) else _wait_for_job(client, found, quiet=quiet).result
    if not isinstance(answer, Influence):
        fail("no influence was found: ask again")
    return answer


def _wait_for_job(client: "Client", job: "JobWithResult", *, quiet: bool) -> "JobWithResult":
    from visual_memory.services.cli.wait_for_job import wait_for_job

    return wait_for_job(client, job.id, f"the {job.kind} could not be found", quiet=quiet)


def _print_stored(decision_id: str, found: "StoredDecision") -> None:
    from visual_memory.services.cli.decision_output import print_decision

    print_decision(decision_id, found.decision, found.options)
    if found.scrubbed:
        typer.echo(f"neighbours removed since: {found.scrubbed}; the votes were counted again without them")


def _print_replay(found: "Replay") -> None:
    if found.changed:
        typer.echo(f"today: {found.decision.label} instead of {found.before}")
    else:
        typer.echo(f"today: {found.decision.label} again")
    for each in found.came:
        typer.echo(f"  new     {each.image_id} ({', '.join(each.labels)}), share {each.share:.1%}")
    for gone in found.gone:
        typer.echo(f"  gone    {gone.neighbour.image_id} ({', '.join(gone.neighbour.labels)}): {gone.why}")
    for other in found.relabelled:
        typer.echo(f"  labels  {other.image_id}: {', '.join(other.after)} instead of {', '.join(other.before)}")
    if found.reweighted:
        typer.echo(f"  weights differ for {len(found.reweighted)} of those that voted both times")


def _print_counterfactual(found: "Counterfactual") -> None:
    if found.reason is not None:
        typer.echo(found.reason)
        return
    fewest = "fewer may suffice" if found.truncated else "no fewer suffice"
    typer.echo(f"without these it would be {found.becomes}, and {fewest}:")
    for each in found.images:
        typer.echo(f"  {each.image_id} ({', '.join(each.labels)}), similarity {each.similarity:.4f}, rank {each.rank}")


def _print_influence(found: "Influence") -> None:
    typer.echo(f"of {found.decisions} decisions")
    for each in found.images:
        typer.echo(f"  {each.share:8.2f}  in {each.decisions}  {each.image_id} ({', '.join(each.labels)})")
    for title, weights in (("labels", found.labels), ("sources", found.sources)):
        typer.echo(title)
        for weight in weights:
            typer.echo(f"  {weight.share:8.2f}  {weight.name or '(none)'}")
