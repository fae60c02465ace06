"""The commands for curating: judge the memory by itself, look at its suspects and classes, act on them."""

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.shared_options import (
    FAILED,
    LOCAL,
    AsJson,
    ImageIds,
    Key,
    Labels,
    Reason,
    Sources,
    Subjects,
    Url,
    Where,
    Yes,
    connect,
    errors,
    fail,
    filter_of,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from visual_memory.schemas.curation_request import CurationRequest
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.judgement import Suspect
    from visual_memory.services.client.http_client import Client

POLL = 0.5
MOST_SUSPECTS = 1000

app = typer.Typer(help="Mute, unmute, relabel or remove images that deserve it.", no_args_is_help=True)

SuspectsOf = Annotated[str | None, typer.Option("--suspects", help="The suspects of a kind, instead of a filter.")]
Top = Annotated[int, typer.Option(help="With --suspects: the strongest so many.", min=1, max=MOST_SUSPECTS)]


def judge(
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Judge the memory by itself: each image by the votes of the others."""
    from visual_memory.services.cli import curation_tables

    with errors(), connect(url, key) as client:
        job = client.judge()
        if wait:
            _follow(client, job.id, quiet=as_json)
        status = client.judgement()
    if as_json:
        print_json(status.model_dump(mode="json"))
    else:
        curation_tables.judgement(status)


def suspects(
    kind: Annotated[str | None, typer.Option(help="Of one kind: label, duplicate or outlier.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Images that deserve a look: likely label errors, near-duplicates, outliers; each with its reason."""
    from visual_memory.services.cli import curation_tables

    with errors(), connect(url, key) as client:
        found = _suspects(client, kind, limit)
    if as_json:
        for each in found:
            print_json(each.model_dump(mode="json"))
    else:
        curation_tables.suspects(found)


def labels(
    thin: Annotated[int, typer.Option(help="Classes of fewer images are called thin.", min=0)] = 10,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Every class: its images, how often the others vote right for them, and what they are taken for."""
    from visual_memory.services.cli import curation_tables

    with errors(), connect(url, key) as client:
        found = client.labels()
    if as_json:
        for each in found:
            print_json({**each.model_dump(mode="json"), "thin": each.images < thin})
    else:
        curation_tables.labels(found, thin)


@app.command()
def mute(
    suspects_of: SuspectsOf = None,
    top: Top = 10,
    wrong_votes: Annotated[
        int | None, typer.Option(help="Images that gave so many wrong votes or more; a removal unmutes them.", min=1)
    ] = None,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: Where = "{}",
    yes: Yes = False,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Let images vote no more, without forgetting them."""
    from visual_memory.schemas.curation_request import CurationRequest

    with errors(), connect(url, key) as client:
        filters = _which(client, suspects_of, top, filter_of(subject, source, label, image_id, filter_))
        asked = {"action": "mute", "wrong_votes": wrong_votes}
        _curate(client, [CurationRequest.model_validate({**asked, "filter": each}) for each in filters], yes, as_json)


@app.command()
def unmute(
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: Where = "{}",
    yes: Yes = False,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Let muted images vote again; all of them with --filter '{"state": "muted"}'."""
    from visual_memory.schemas.curation_request import CurationRequest

    with errors(), connect(url, key) as client:
        where = filter_of(subject, source, label, image_id, filter_)
        _curate(client, [CurationRequest.model_validate({"action": "unmute", "filter": where})], yes, as_json)


@app.command()
def relabel(
    to: Annotated[
        list[str] | None, typer.Option("--to", help="The new label; may be repeated. With suspects: or as suggested.")
    ] = None,
    suspects_of: SuspectsOf = None,
    top: Top = 10,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: Where = "{}",
    yes: Yes = False,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give images other labels; likely label errors, without --to, those that their neighbours vote for."""
    from visual_memory.schemas.curation_request import CurationRequest

    with errors(), connect(url, key) as client:
        where = filter_of(subject, source, label, image_id, filter_)
        if suspects_of == "label" and not to:
            if where:
                fail("name images by --suspects or by a filter, not by both")
            requests = list(_as_suggested(_suspects(client, suspects_of, top)))
        else:
            asked = {"action": "relabel", "labels": to or []}
            filters = _which(client, suspects_of, top, where)
            requests = [CurationRequest.model_validate({**asked, "filter": each}) for each in filters]
        _curate(client, requests, yes, as_json)


@app.command()
def remove(
    reason: Reason,
    suspects_of: SuspectsOf = None,
    top: Top = 10,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: Where = "{}",
    yes: Yes = False,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Forget images for good, as `visual-memory remove` does, with a receipt."""
    from visual_memory.schemas.removal import RemovalRequest
    from visual_memory.services.cli.commands.await_receipt import remove_with_receipt
    from visual_memory.services.cli.preview_changes import foretell

    with errors(), connect(url, key) as client:
        for where in _which(client, suspects_of, top, filter_of(subject, source, label, image_id, filter_)):
            if not yes and not as_json:
                foretell(client, {"action": "remove", "filter": where})
            remove_with_receipt(client, RemovalRequest(filter=where, reason=reason), yes=yes, as_json=as_json)


def _suspects(client: "Client", kind: str | None, limit: int) -> "list[Suspect]":
    from visual_memory.schemas.judgement import Suspicion

    if kind is not None and kind not in set(Suspicion):
        fail(f"there are no suspects of a kind {kind!r}: the kinds are {', '.join(Suspicion)}")
    if client.judgement().current is None:
        fail("the memory is not judged at present: run `visual-memory judge` first")
    return client.suspects(None if kind is None else Suspicion(kind), limit)


def _which(client: "Client", suspects_of: str | None, top: int, where: "Filter") -> "list[Filter]":
    """The filter, or those of the strongest suspects of a kind: more than one where they are too many for one."""
    from visual_memory.schemas.filter import by_image_ids

    if suspects_of is None:
        return [where]
    if where:
        fail("name images by --suspects or by a filter, not by both")
    found = _suspects(client, suspects_of, top)
    if not found:
        fail(f"there are no suspects of the kind {suspects_of}")
    return list(by_image_ids(each.image_id for each in found))


def _as_suggested(found: "list[Suspect]") -> "Iterator[CurationRequest]":
    """For each label that was suggested, one request."""
    from visual_memory.schemas.curation_request import CurationRequest
    from visual_memory.schemas.filter import by_image_ids

    groups: dict[str, list[str]] = defaultdict(list)
    for each in found:
        groups[each.suggestion].append(each.image_id)
    for label, image_ids in groups.items():
        for where in by_image_ids(image_ids):
            yield CurationRequest.model_validate({"action": "relabel", "filter": where, "labels": [label]})


def _curate(client: "Client", requests: "list[CurationRequest]", yes: bool, as_json: bool) -> None:
    """Say how many images each would change, and what decisions, ask, do it."""
    from visual_memory.schemas.curation_request import Action
    from visual_memory.services.cli.preview_changes import foretell

    for request in requests:
        would = client.curate(request.model_copy(update={"dry_run": True}))
        if not as_json:
            as_what = f" as {' and '.join(request.labels)}" if request.labels else ""
            typer.echo(f"{request.action}{as_what}: {would.images} images")
        if not yes and not as_json and request.action is not Action.UNMUTE and request.wrong_votes is None:
            foretell(client, request.model_dump(include={"action", "filter", "labels"}))
    if not yes and not typer.confirm("Do it?"):
        raise typer.Exit(FAILED)
    changed = sum(client.curate(request).images for request in requests)
    if as_json:
        print_json({"images": changed})
    else:
        typer.echo(f"{changed} images changed")


def _follow(client: "Client", job_id: str, *, quiet: bool) -> None:
    """Show how far a job is until it is done."""
    from visual_memory.schemas.background_job import JobState
    from visual_memory.services.cli import tables

    with tables.progress(quiet=quiet) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            job = client.judgement().job
            if job is None or job.id != job_id or job.state is JobState.DONE:
                return
            if job.state is JobState.FAILED:
                fail(f"the memory could not be judged: {job.error}")
            progress.update(task, description=job.stage or "waiting", completed=job.done, total=job.total or None)
            time.sleep(POLL)
