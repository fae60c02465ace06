"""Render a report's HTML page from its template."""

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from visual_memory.schemas.classify_options import Prune, Vote
from visual_memory.schemas.evaluation_results import Curve, Evaluation

KS = (1, 5, 10, 20, 50, 100)


def render_page(evaluation: Evaluation, plots: set[str]) -> str:
    """Render the page with the plots of these names."""
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
        plots=plots,
        ks=ks,
        table=list(_table(evaluation, ks)),
        best={curve.vote: max(curve.accuracy) for curve in _unpruned(evaluation)},
        last={curve.vote: curve.accuracy[-1] for curve in _unpruned(evaluation)},
        votes=Vote,
    )


def _unpruned(evaluation: Evaluation) -> list[Curve]:
    return [curve for curve in evaluation.curves if curve.prune == Prune.NONE]


def _table(evaluation: Evaluation, ks: list[int]) -> Iterator[tuple[Curve, list[float], int]]:
    """Each curve with its accuracy at some k, and the smallest k with the best accuracy."""
    for curve in evaluation.curves:
        best = max(range(len(curve.accuracy)), key=lambda index: curve.accuracy[index])
        yield curve, [curve.accuracy[k - 1] for k in ks], best + 1
