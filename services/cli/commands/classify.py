"""Classify picture files, and print the decisions with their neighbours."""

from pathlib import Path
from typing import Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.shared_options import (
    DEFAULT_URL,
    Alpha,
    AsJson,
    FilterText,
    ImageIds,
    Key,
    Labels,
    Sources,
    Subjects,
    Temperature,
    Url,
    connect,
    filter_from_options,
    print_json,
)


def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.", exists=True, dir_okay=False)],
    k: Annotated[int, typer.Option("-k", help="How many neighbours vote.")] = 50,
    vote: Annotated[str, typer.Option(help="rank, plurality, distance or softmax.")] = "rank",
    alpha: Alpha = 2.0,
    temperature: Temperature = 0.07,
    group_by: Annotated[str, typer.Option(help="What shares one vote: copies of the same content, or none.")] = (
        "content"
    ),
    effort: Annotated[
        str, typer.Option(help="Search effort: fast, balanced or exact (compare with every image).")
    ] = "balanced",
    level: Annotated[int | None, typer.Option(help="Cut label paths to this many parts.")] = None,
    back_off: Annotated[
        float | None, typer.Option(help="Go up the label path until this share is reached, such as 0.8.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Use the memory as it was at this moment: 2026-01-31T12:00:00Z.")
    ] = None,
    unknown_above: Annotated[
        float | None, typer.Option(help="No label above this quantile of novelty, 0 to 1, such as 0.99.")
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Also give a set of labels with this coverage, such as 0.9.")
    ] = None,
    show: Annotated[int, typer.Option("--show", help="How many neighbours to show.")] = 5,
    rerank: Annotated[bool, typer.Option("--rerank", help="Let a vision-language model decide close votes.")] = False,
    prune: Annotated[
        str | None, typer.Option(help="How wrong votes reduce a neighbour's weight: none, soft or hard.")
    ] = None,
    prune_above: Annotated[int, typer.Option(help="Wrong votes from which hard pruning excludes a neighbour.")] = 16,
    store: Annotated[bool, typer.Option("--store", help="Store the decision, to be explained later.")] = False,
    subject: Subjects = None,
    source: Sources = None,
    label: Labels = None,
    image_id: ImageIds = None,
    filter_: FilterText = "{}",
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask: the label that the nearest neighbours of each picture vote for, and the neighbours."""
    from visual_memory.schemas.classify_options import ClassifyOptions
    from visual_memory.services.cli.decision_output import print_decision

    with exit_on_error(), connect(url, key) as client:
        given = {"k": k, "vote": vote, "alpha": alpha, "temperature": temperature, "effort": effort, "show": show}
        given |= {"level": level, "back_off": back_off, "as_of": as_of, "prune": prune, "prune_above": prune_above}
        given |= {"group_by": group_by}
        given |= {"unknown_above": unknown_above, "coverage": coverage, "rerank": rerank, "store": store}
        where = filter_from_options(subject, source, label, image_id, filter_)
        options = ClassifyOptions.model_validate({**given, "filter": where})
        for picture in pictures:
            answer = client.classify([picture.read_bytes()], options)
            [decision] = answer.decisions
            if as_json:
                applied = answer.options.model_dump(mode="json")
                print_json({"picture": str(picture), **decision.model_dump(mode="json"), "options": applied})
            else:
                print_decision(picture, decision, answer.options)
