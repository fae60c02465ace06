"""The commands of every day: teach, ask, forget, and look how the service is."""

from pathlib import Path
from typing import Annotated

import typer

from visual_memory.services.cli.shared_options import (
    FAILED,
    LOCAL,
    PARTLY,
    Alpha,
    AsJson,
    ImageIds,
    Key,
    Labels,
    Reason,
    Sources,
    Subjects,
    Temperature,
    Url,
    Where,
    Yes,
    connect,
    errors,
    filter_of,
    print_json,
)


def add(
    what: Annotated[
        Path, typer.Argument(help="FOLDER holding LABEL/*.jpg, a manifest (.csv, .jsonl), or vectors (.npy, .parquet).")
    ],
    source: Annotated[str | None, typer.Option(help="Where they come from, said of all of them.")] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait until all pictures are remembered or rejected; vectors are, once sent.")
    ] = True,
    encoder: Annotated[str | None, typer.Option(help="The encoder that made a file's vectors.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Of a .npy file's vectors: .txt, .csv or .jsonl.")] = None,
    known_labels: Annotated[
        str, typer.Option(help="Of images that are there with other labels: keep theirs, replace them, or add to them.")
    ] = "keep",
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Teach: send labelled pictures, with labels from the folders' names or a manifest; or vectors with theirs."""
    from visual_memory.schemas.labels import LabelRule
    from visual_memory.services.cli import tables
    from visual_memory.services.client import import_vectors
    from visual_memory.services.client.folders_and_manifests import read_pictures
    from visual_memory.services.client.import_pictures import teach

    if known_labels not in set(LabelRule):
        raise typer.BadParameter(f"--known-labels: {', '.join(LabelRule)}")
    rule, of_vectors = LabelRule(known_labels), import_vectors.is_vectors(what)
    if of_vectors and not wait:
        raise typer.BadParameter("--no-wait: vectors are remembered as they are sent; leave it out")
    if not of_vectors and labels is not None:
        raise typer.BadParameter("--labels is for vectors (.npy): pictures are labelled by their folders or a manifest")
    if not of_vectors and encoder is not None:
        raise typer.BadParameter("--encoder is for vectors (.npy, .parquet): the service's encodes pictures")
    with errors(), connect(url, key) as client, tables.progress(quiet=as_json) as progress:
        if of_vectors:
            outcome = import_vectors.teach_vectors(client, what, labels, encoder, source, progress, rule)
        else:
            outcome = teach(client, *read_pictures(what, source), progress, wait=wait, known_labels=rule)
    if as_json:
        print_json(outcome.as_dict())
    else:
        tables.outcome(outcome)
    if outcome.refused or outcome.rejected:
        raise typer.Exit(PARTLY)


def classify(
    pictures: Annotated[list[Path], typer.Argument(help="The pictures' files.", exists=True, dir_okay=False)],
    k: Annotated[int, typer.Option("-k", help="How many neighbours vote.")] = 50,
    vote: Annotated[str, typer.Option(help="rank, plurality, distance or softmax.")] = "rank",
    alpha: Alpha = 2.0,
    temperature: Temperature = 0.07,
    group_by: Annotated[str, typer.Option(help="What shares a vote: copies of one content, or none.")] = "content",
    search: Annotated[str, typer.Option(help="fast, balanced or exact (compare with every image).")] = "balanced",
    level: Annotated[int | None, typer.Option(help="Cut labels to their first so many parts.")] = None,
    back_off: Annotated[float | None, typer.Option(help="Go up the labels' paths to this share, such as 0.8.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Ask the memory of a moment: 2026-01-31T12:00:00Z.")] = None,
    unknown_above: Annotated[float | None, typer.Option(help="No label beyond this percentile, such as 99.")] = None,
    coverage: Annotated[float | None, typer.Option(help="Name labels that hold the right one so often: 0.9.")] = None,
    show_: Annotated[int, typer.Option("--show", help="How many neighbours to show.")] = 5,
    rerank: Annotated[bool, typer.Option("--rerank", help="Let a vision-language model decide close votes.")] = False,
    prune: Annotated[str | None, typer.Option(help="What wrong votes cost a neighbour: none, soft or hard.")] = None,
    prune_above: Annotated[int, typer.Option(help="Wrong votes from which on hard leaves one out.")] = 16,
    store: Annotated[bool, typer.Option("--store", help="Keep the decision, to be explained later.")] = False,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: Where = "{}",
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask: what the nearest neighbours of each picture vote for, and who they are."""
    from visual_memory.schemas.classify_options import ClassifyOptions
    from visual_memory.services.cli import tables

    with errors(), connect(url, key) as client:
        asked = {"k": k, "vote": vote, "alpha": alpha, "temperature": temperature, "search": search, "show": show_}
        asked |= {"level": level, "back_off": back_off, "as_of": as_of, "prune": prune, "prune_above": prune_above}
        asked |= {"group_by": group_by}
        asked |= {"unknown_above": unknown_above, "coverage": coverage, "rerank": rerank, "store": store}
        where = filter_of(subject, source, label, image_id, filter_)
        options = ClassifyOptions.model_validate({**asked, "filter": where})
        for picture in pictures:
            answer = client.classify([picture.read_bytes()], options)
            [decision] = answer.decisions
            if as_json:
                applied = answer.options.model_dump(mode="json")
                print_json({"picture": str(picture), **decision.model_dump(mode="json"), "options": applied})
            else:
                tables.decision(picture, decision, answer.options)


def remove(
    reason: Reason,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: Where = "{}",
    everything: Annotated[bool, typer.Option("--everything", help="All images; instead of a filter.")] = False,
    block: Annotated[bool, typer.Option("--block", help="Refuse the same contents and subjects from now on.")] = False,
    erase_now: Annotated[
        bool, typer.Option("--erase-now", help="Erase it from the disk at once, and wait for the receipt of that.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Yes = False,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Forget: show what would go, ask, remove it, and print the receipt."""
    from visual_memory.schemas.removal import RemovalRequest
    from visual_memory.services.cli.commands.await_receipt import remove_with_receipt

    with errors(), connect(url, key) as client:
        where = filter_of(subject, source, label, image_id, filter_)
        request = RemovalRequest(filter=where, everything=everything, reason=reason, block=block, erase_now=erase_now)
        remove_with_receipt(client, request, dry_run=dry_run, yes=yes, as_json=as_json)


def status(url: Url = LOCAL, key: Key = None, as_json: AsJson = False) -> None:
    """How the service is: every part, and the labels it knows."""
    from visual_memory.services.cli import tables

    with errors(), connect(url, key) as client:
        readiness = client.readiness()
        labels = client.labels() if readiness["ready"] and key else []  # how the parts are is told without a key
    if as_json:
        print_json({**readiness, "labels": {each.label: each.images for each in labels}})
    else:
        tables.status(readiness, labels)
    if not readiness["ready"]:
        raise typer.Exit(FAILED)


def audit(
    limit: Annotated[int, typer.Option(help="How many lines, the latest first.")] = 100,
    subject: Annotated[str | None, typer.Option(help="Only who looked at this subject.")] = None,
    url: Url = LOCAL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Who did what: what was sent, looked at, changed and removed, and the keys, of the key's tenant."""
    from visual_memory.services.cli import tables

    with errors(), connect(url, key) as client:
        lines = client.audit(limit, subject)
    if as_json:
        for line in lines:
            print_json(line.model_dump(mode="json", exclude_none=True))
    else:
        tables.audit(lines)


def demo(
    data: Annotated[
        Path | None, typer.Argument(help="FOLDER holding LABEL/*.jpg; without: handwritten digits.")
    ] = None,
) -> None:
    """See it work: start everything, teach, ask, teach a new class, forget, stop everything."""
    from visual_memory.services.cli.commands.demo import run

    with errors():
        run(data)
