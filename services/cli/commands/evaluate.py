"""Evaluate a memory, or a file of neighbours, and write the report into a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import PARTIAL, exit_on_error
from visual_memory.services.cli.shared_options import (
    DEFAULT_URL,
    Alpha,
    AsJson,
    FilterText,
    Key,
    Temperature,
    Url,
    connect,
    print_json,
)

if TYPE_CHECKING:
    from visual_memory.schemas.evaluation_request import EvaluationRequest
    from visual_memory.schemas.evaluation_results import Evaluation, EvaluationOptions


def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.", file_okay=False)],
    pictures: Annotated[
        Path | None,
        typer.Argument(help="Labelled pictures: FOLDER holding LABEL/*.jpg, or a manifest: .csv or .jsonl."),
    ] = None,
    itself: Annotated[
        bool, typer.Option("--self", help="Evaluate the memory against itself, leaving one out.")
    ] = False,
    from_neighbours: Annotated[
        Path | None, typer.Option(help="A file of neighbours, in the JSON format of the paper's authors.", exists=True)
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many neighbours vote for the answers in the report.")] = 50,
    vote: Annotated[str, typer.Option(help="Their vote: rank, plurality, distance or softmax.")] = "rank",
    alpha: Alpha = 2.0,
    temperature: Temperature = 0.07,
    prune_above: Annotated[
        int | None,
        typer.Option(help="Wrong votes, over 100 neighbours, from which hard pruning excludes an image."),
    ] = None,
    filter_: FilterText = "{}",
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate: accuracy of every vote at every k, confusions, calibration and more, as a folder with a report."""
    from visual_memory.schemas.evaluation_request import EvaluationRequest
    from visual_memory.schemas.filter import Filter
    from visual_memory.schemas.strict_json import parse_json

    if [pictures is not None, itself, from_neighbours is not None].count(True) != 1:
        raise typer.BadParameter("give FOLDER or a manifest, or --self, or --from-neighbours: one of the three")
    if from_neighbours is not None and filter_ != "{}":
        raise typer.BadParameter("--filter is of a memory: a file of neighbours is evaluated completely")
    refused: dict[str, str] = {}
    with exit_on_error():
        given = {"k": k, "vote": vote, "alpha": alpha, "temperature": temperature, "prune_above": prune_above}
        where = parse_json(Filter, filter_)
        request = EvaluationRequest.model_validate({**given, "itself": itself, "filter": where})
        if from_neighbours is not None:
            found = _evaluate_neighbours(from_neighbours, request, output, quiet=as_json)
        else:
            found = _evaluate_by_service(pictures, request, output, refused, url, key, quiet=as_json)
    if as_json:
        print_json({**found.model_dump(mode="json"), "refused": refused})
    else:
        _print_evaluation(found, output)
    for name, reason in refused.items():
        typer.echo(f"refused {name}: {reason}", err=True)
    if refused:
        raise typer.Exit(PARTIAL)


def _evaluate_neighbours(file: Path, options: "EvaluationOptions", output: Path, *, quiet: bool) -> "Evaluation":
    """Evaluate a file of neighbours in this process."""
    from visual_memory.services.cli.terminal_output import stage_bars
    from visual_memory.services.evaluation import paper_neighbours_json
    from visual_memory.services.evaluation.compute_evaluation import evaluate_neighbours
    from visual_memory.services.evaluation.report.report_files import write_report

    with stage_bars(quiet=quiet) as report:
        found = evaluate_neighbours(paper_neighbours_json.read(file), options, report)
    write_report(found, output)
    return found


def _evaluate_by_service(
    pictures: Path | None,
    request: "EvaluationRequest",
    output: Path,
    refused: dict[str, str],
    url: str,
    key: str | None,
    *,
    quiet: bool,
) -> "Evaluation":
    """Let the service evaluate its memory with pictures, or against itself."""
    from visual_memory.services.cli.terminal_output import stage_bars
    from visual_memory.services.client import run_evaluation
    from visual_memory.services.client.folders_and_manifests import read_pictures

    number, found = (0, iter(())) if pictures is None else read_pictures(pictures, None)
    with connect(url, key) as client:
        with stage_bars(quiet=quiet) as report:
            done = run_evaluation.evaluate(client, request, number, found, report, refused)
        run_evaluation.unpack(client.report(done.id), output)
    if done.summary and done.summary.known:
        typer.echo(
            f"{done.summary.known} of the pictures are in the memory, and find themselves: this flatters the results",
            err=True,
        )
    return run_evaluation.read(output)


def _print_evaluation(found: "Evaluation", folder: Path) -> None:
    """Print the accuracy of every vote, the recall of the search, and where the report is."""
    from rich.table import Table

    from visual_memory.schemas.classify_options import Prune
    from visual_memory.services.cli.terminal_output import console

    ks = [k for k in (1, 10, 50, 100) if k <= len(found.hit_rate)]
    table = Table("vote", *(f"k = {k}" for k in ks), "best")
    for curve in found.curves:
        if curve.prune == Prune.NONE:
            values = [curve.accuracy[k - 1] for k in ks]
            table.add_row(curve.vote, *(f"{value:.1%}" for value in [*values, max(curve.accuracy)]))
    console.print(table)
    console.print(f"{found.accuracy:.1%} right by the {found.options.vote} vote of {found.k}; {found.queries} queries")
    if found.recall and found.fast_recall:
        k, part = max(found.recall.items())
        console.print(f"the search finds {part:.1%} of the {k} nearest, the fast one {found.fast_recall[k]:.1%}")
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
