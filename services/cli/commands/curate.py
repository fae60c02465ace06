"""The group `curate`: mute, unmute, relabel or remove images by filter or by suspicion; list and undo changes."""

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.commands.suspects import load_suspects
from visual_memory.services.cli.exit_codes import FAILED, exit_on_error, fail
from visual_memory.services.cli.shared_options import (
    DEFAULT_URL,
    AsJson,
    FilterText,
    ImageIds,
    Key,
    Labels,
    Reason,
    Sources,
    Subjects,
    Url,
    Yes,
    connect,
    filter_from_options,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from visual_memory.schemas.change import Change
    from visual_memory.schemas.curation_request import CurationRequest
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.judgement import Suspect
    from visual_memory.services.client.http_client import Client

MAX_SUSPECTS = 1000
MAX_CHANGED_LISTED = 5

app = typer.Typer(help="Mute, unmute, relabel or remove images; list changes and undo them.", no_args_is_help=True)

SuspectsOf = Annotated[str | None, typer.Option("--suspects", help="The suspects of a kind, instead of a filter.")]
Top = Annotated[int, typer.Option(help="With --suspects: how many, the strongest first.", min=1, max=MAX_SUSPECTS)]


@app.command()
def mute(
    suspects_of: SuspectsOf = None,
    top: Top = 10,
    wrong_votes: Annotated[
        int | None, typer.Option(help="Images with at least this many wrong votes; a removal unmutes them.", min=1)
    ] = None,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Exclude images from votes, without removing them."""
    from visual_memory.schemas.curation_request import CurationRequest

    with exit_on_error(), connect(url, key) as client:
        filters = _filters(client, suspects_of, top, filter_from_options(subject, source, label, image_id, filter_))
        fields = {"action": "mute", "wrong_votes": wrong_votes}
        _curate(client, [CurationRequest.model_validate({**fields, "filter": each}) for each in filters], yes, as_json)


@app.command()
def unmute(
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Let muted images vote again; all of them with --filter '{"state": "muted"}'."""
    from visual_memory.schemas.curation_request import CurationRequest

    with exit_on_error(), connect(url, key) as client:
        where = filter_from_options(subject, source, label, image_id, filter_)
        _curate(client, [CurationRequest.model_validate({"action": "unmute", "filter": where})], yes, as_json)


@app.command()
def relabel(
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="The new label; may be repeated. Default for label suspects: the suggested one."),
    ] = None,
    suspects_of: SuspectsOf = None,
    top: Top = 10,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give images other labels; label suspects without --to get the label that their neighbours vote for."""
    from visual_memory.schemas.curation_request import CurationRequest

    with exit_on_error(), connect(url, key) as client:
        where = filter_from_options(subject, source, label, image_id, filter_)
        if suspects_of == "label" and not to:
            if where:
                fail("name images by --suspects or by a filter, not by both")
            requests = list(_suggested_relabels(load_suspects(client, suspects_of, top)))
        else:
            fields = {"action": "relabel", "labels": to or []}
            filters = _filters(client, suspects_of, top, where)
            requests = [CurationRequest.model_validate({**fields, "filter": each}) for each in filters]
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
    filter_: FilterText = "{}",
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Remove images, as `visual-memory remove` does, with a receipt."""
    from visual_memory.schemas.removal import RemovalRequest
    from visual_memory.services.cli.removal_with_receipt import remove_with_receipt

    with exit_on_error(), connect(url, key) as client:
        for where in _filters(client, suspects_of, top, filter_from_options(subject, source, label, image_id, filter_)):
            if not yes and not as_json:
                _print_preview(client, {"action": "remove", "filter": where})
            remove_with_receipt(client, RemovalRequest(filter=where, reason=reason), yes=yes, as_json=as_json)


@app.command()
def history(
    limit: Annotated[int, typer.Option(help="How many, the latest first.", min=1, max=1000)] = 20,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the changes of images, the latest first."""
    with exit_on_error(), connect(url, key) as client:
        found = client.changes(limit=limit)
    for each in found.data:
        if as_json:
            print_json(each.model_dump(mode="json"))
        else:
            typer.echo(_line(each))


@app.command()
def undo(
    change_id: Annotated[str, typer.Argument(help="The change's id, as `curate history` lists it.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Undo a change; images that changed again since stay as they are. To bring it back, undo the undo."""
    with exit_on_error(), connect(url, key) as client:
        made = client.undo(change_id)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    skipped = f", {made.skipped} left as they are: they changed again since, or are gone" * bool(made.skipped)
    typer.echo(f"{made.images} images changed back{skipped}")
    _print_how_to_undo(made)


def _line(change: "Change") -> str:
    """A change in one line."""
    notes = [f"undoes {change.undoes}" * bool(change.undoes), f"skipped {change.skipped}" * bool(change.skipped)]
    notes += [change.state.value * (change.state.value != "done")]
    notes += [f"undone by {change.undone_by}" * bool(change.undone_by)]
    said = "".join(f", {note}" for note in notes if note)
    return (
        f"{change.id}  {change.made_at:%Y-%m-%d %H:%M}  {change.action}  {change.images} images, by {change.by}{said}"
    )


def _print_how_to_undo(change: "Change") -> None:
    if change.images:
        typer.echo(f"to undo it: visual-memory curate undo {change.id}")


def _filters(client: "Client", suspects_of: str | None, top: int, where: "Filter") -> "list[Filter]":
    """The given filter, or filters for the strongest suspects of a kind, whose ids may not fit into one."""
    from visual_memory.schemas.filter import filters_by_image_ids

    if suspects_of is None:
        return [where]
    if where:
        fail("name images by --suspects or by a filter, not by both")
    found = load_suspects(client, suspects_of, top)
    if not found:
        fail(f"there are no suspects of the kind {suspects_of}")
    return list(filters_by_image_ids(each.image_id for each in found))


def _suggested_relabels(found: "list[Suspect]") -> "Iterator[CurationRequest]":
    """Make one relabel request for each suggested label."""
    from visual_memory.schemas.curation_request import CurationRequest
    from visual_memory.schemas.filter import filters_by_image_ids

    groups: dict[str, list[str]] = defaultdict(list)
    for each in found:
        groups[each.suggestion].append(each.image_id)
    for label, image_ids in groups.items():
        for where in filters_by_image_ids(image_ids):
            yield CurationRequest.model_validate({"action": "relabel", "filter": where, "labels": [label]})


def _curate(client: "Client", requests: "list[CurationRequest]", yes: bool, as_json: bool) -> None:
    """Print how many images and decisions each request would change, ask for confirmation, and send them."""
    from visual_memory.schemas.curation_request import Action

    for request in requests:
        would = client.preview_curation(request)
        if not as_json:
            as_what = f" as {' and '.join(request.labels)}" if request.labels else ""
            typer.echo(f"{request.action}{as_what}: {would.images} images")
        if not yes and not as_json and request.action is not Action.UNMUTE and request.wrong_votes is None:
            _print_preview(client, request.model_dump(include={"action", "filter", "labels"}))
    if not yes and not typer.confirm("Do it?"):
        raise typer.Exit(FAILED)
    made = [client.curate(request) for request in requests]
    if as_json:
        print_json({"images": sum(each.images for each in made), "changes": [each.id for each in made]})
        return
    typer.echo(f"{sum(each.images for each in made)} images changed")
    for each in made:
        _print_how_to_undo(each)


def _print_preview(client: "Client", intervention: "Mapping[str, object]") -> None:
    """Print which recent stored decisions would change; nothing if there are none, or the key may not read them.

    Args:
        client: of the service.
        intervention: `DecisionPreviewRequest` as a dictionary.
    """
    from visual_memory.schemas.errors import Forbidden, InvalidRequest
    from visual_memory.schemas.explanation import DecisionPreviewRequest
    from visual_memory.services.cli.terminal_output import console

    try:
        preview = client.preview_change(DecisionPreviewRequest.model_validate(intervention))
    except Forbidden:
        return
    except InvalidRequest as error:
        console.print(f"the effect on stored decisions is unknown: {error.message}", markup=False, highlight=False)
        return
    if not preview.decisions:
        return
    number = len(preview.changed) or "none"
    console.print(
        f"{number} of the last {preview.decisions} stored decisions would have another label", highlight=False
    )
    for each in preview.changed[:MAX_CHANGED_LISTED]:
        line = f"  {each.id}: {each.after or 'no label'} instead of {each.before or 'no label'}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(preview.changed) > MAX_CHANGED_LISTED:
        console.print(f"  ... and {len(preview.changed) - MAX_CHANGED_LISTED} more", highlight=False)
