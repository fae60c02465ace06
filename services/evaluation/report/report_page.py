"""The report: a folder with HTML to look at, JSON to compute with, plots, and the neighbours."""

import json
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from visual_memory.schemas.classify_options import Prune, Vote
from visual_memory.schemas.evaluation_results import Curve, Evaluation
from visual_memory.services.evaluation.report import report_plots
from visual_memory.services.evaluation.report.report_folder import fill

KS = (1, 5, 10, 20, 50, 100)


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write the report; the folder is made if it is not there, and files of an earlier report are replaced."""
    fill(folder, files(evaluation))


def files(evaluation: Evaluation) -> dict[str, bytes]:
    """The report's files by their paths in its folder.

    ``report.html`` shows everything, ``report.json`` holds the numbers, ``neighbours.json`` the neighbours as the
    paper's authors write them; ``plots/*.png`` and ``thumbnails/*.jpg`` are what the HTML shows.
    """
    drawn = {f"plots/{name}.png": png for name, png in report_plots.draw(evaluation).items()}
    return {
        "report.html": _page(evaluation, drawn).encode(),
        "report.json": evaluation.model_dump_json(indent=1).encode(),
        "neighbours.json": json.dumps(evaluation.neighbours, ensure_ascii=False).encode(),
        **drawn,
        **evaluation.thumbnails,
    }


def _page(evaluation: Evaluation, drawn: dict[str, bytes]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}".replace("%", " %")
    ks = [k for k in KS if k <= len(evaluation.hit_rate)]
    return environment.get_template("report_template.html").render(
        it=evaluation,
        plots={Path(name).stem for name in drawn},
        ks=ks,
        table=list(_table(evaluation, ks)),
        best={curve.vote: max(curve.accuracy) for curve in _plain(evaluation)},
        last={curve.vote: curve.accuracy[-1] for curve in _plain(evaluation)},
        votes=Vote,
    )


def _plain(evaluation: Evaluation) -> list[Curve]:
    return [curve for curve in evaluation.curves if curve.prune == Prune.NONE]


def _table(evaluation: Evaluation, ks: list[int]) -> Iterator[tuple[Curve, list[float], int]]:
    """Each curve with its accuracy at some k, and the smallest k at which it is best."""
    for curve in evaluation.curves:
        best = max(range(len(curve.accuracy)), key=lambda place: curve.accuracy[place])
        yield curve, [curve.accuracy[k - 1] for k in ks], best + 1
