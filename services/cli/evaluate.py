"""Measure how well a memory answers, and write a report."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.common import AsJson, errors, print_json


def evaluate(
    from_neighbours: Annotated[
        Path, typer.Option(help="A file of neighbours, in the JSON format of the paper's authors.", dir_okay=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.", file_okay=False)],
    k: Annotated[int, typer.Option("-k", help="How many neighbours vote for the answers that are looked at.")] = 50,
    vote: Annotated[str, typer.Option(help="The vote for them: rank, plurality, distance or softmax.")] = "rank",
    alpha: Annotated[float, typer.Option(help="Offset of the rank vote.")] = 2.0,
    temperature: Annotated[float, typer.Option(help="Temperature of the softmax vote.")] = 0.07,
    prune_above: Annotated[
        int | None,
        typer.Option(help="Wrong votes, over 100 neighbours, from which on hard pruning leaves an image out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure: accuracy of every vote at every k, confusions, calibration and more, as a folder with a report."""
    from schemas.evaluation import EvaluationOptions
    from services.cli import show
    from services.evaluation import authors, report
    from services.evaluation.evaluate import evaluate_neighbours

    with errors():
        asked = {"k": k, "vote": vote, "alpha": alpha, "temperature": temperature, "prune_above": prune_above}
        options = EvaluationOptions.model_validate(asked)
        with show.stages(quiet=as_json) as progress:
            evaluation = evaluate_neighbours(authors.read(from_neighbours), options, progress)
        report.write(evaluation, output)
    if as_json:
        print_json(evaluation.model_dump(mode="json"))
    else:
        show.evaluation(evaluation, output)
