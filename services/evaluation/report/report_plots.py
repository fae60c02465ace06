"""Draw the plots of a report for light and dark pages; equal numbers give equal bytes."""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from visual_memory.schemas.classify_options import Effort, Prune, Vote
from visual_memory.schemas.evaluation_results import (
    Calibration,
    Distances,
    Evaluation,
    Histogram,
    Reliability,
    Scaling,
    Sensitivity,
)

INK = "#868e96"
COLOURS = {Vote.RANK: "#0ca678", Vote.PLURALITY: "#f76707", Vote.DISTANCE: "#ae3ec9", Vote.SOFTMAX: "#228be6"}
RIGHT, WRONG = "#0ca678", "#e8590c"
TITLES = {Prune.NONE: "no pruning", Prune.SOFT: "soft pruning", Prune.HARD: "hard pruning"}
MOST_CLASSES = 30
PERCENT = 100
STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": "medium",
    "figure.dpi": 144,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,  # labels are plain text, even with dollar signs
    "xtick.color": INK,
    "ytick.color": INK,
}
HEIGHT = 3.4
WIDTH = 4.3

_drawing = threading.Lock()
"""Style and warnings belong to the process, in which two evaluations may run at once."""


def draw(evaluation: Evaluation) -> dict[str, bytes]:
    """Draw every plot that there are numbers for: PNG files by name, without the extension."""
    plots = {
        "accuracy": _accuracy(evaluation),
        "ranks": _panels([partial(_ranks, evaluation=evaluation)]),
        "confusion": _panels([partial(_confusion, evaluation=evaluation)], 2 * HEIGHT),
        "distances": _distances(evaluation.distances),
        "sensitivity": _panels([partial(_sensitivity, sensitivity=each) for each in evaluation.sensitivity]),
    }
    if evaluation.calibration:
        plots["calibration"] = _calibration(evaluation.calibration)
    recalls = {Effort.BALANCED: evaluation.recall, Effort.FAST: evaluation.fast_recall}
    if recall := {effort: found for effort, found in recalls.items() if found}:
        plots["recall"] = _panels([partial(_recall, recall=recall)])
    if scaling := evaluation.scaling:
        plots["scaling"] = _panels([partial(_scaling, scaling=scaling)])
    return plots


def _panels(panels: Sequence[Callable[[Axes], None]], height: float = HEIGHT) -> bytes:
    """Draw plots next to each other, as one PNG file."""
    with _drawing, style.context(STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks is drawn as boxes
        width = WIDTH * max(len(panels), 1.5 * height / HEIGHT)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        for column, panel in enumerate(panels, start=1):
            panel(figure.add_subplot(1, len(panels), column))
        png = BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _accuracy(evaluation: Evaluation) -> bytes:
    """The paper's figure 2: accuracy over k, a panel for each pruning."""
    values = [PERCENT * value for curve in evaluation.curves for value in curve.accuracy]
    limits = min(values) - 1, max(values) + 1
    pruned = list(dict.fromkeys(curve.prune for curve in evaluation.curves))

    def panel(axes: Axes, prune: Prune) -> None:
        for curve in evaluation.curves:
            if curve.prune == prune:
                _over_k(axes, curve.accuracy, label=curve.vote, color=COLOURS[curve.vote])
        axes.set(title=TITLES[prune], ylabel="accuracy, %", ylim=limits)
        axes.legend(loc="lower left")

    return _panels([partial(panel, prune=prune) for prune in pruned])


def _over_k(axes: Axes, values: Sequence[float], **drawing: Any) -> None:
    axes.plot(np.arange(1, len(values) + 1), PERCENT * np.array(values), **drawing)
    axes.set_xlabel("neighbours, k")


def _ranks(axes: Axes, evaluation: Evaluation) -> None:
    _over_k(axes, evaluation.hit_rate, label="right label among the k nearest", color=COLOURS[Vote.SOFTMAX])
    _over_k(axes, evaluation.right_at_rank, label="k-th nearest has the right label", color=COLOURS[Vote.RANK])
    axes.set(ylabel="%", ylim=(0, 102))
    axes.legend(loc="center right")


def _confusion(axes: Axes, evaluation: Evaluation) -> None:
    """Rows: the right label; columns: the answer. Only the classes with the most mistakes, if there are many."""
    matrix = np.zeros((len(evaluation.labels), len(evaluation.labels)))
    for label, answer, count in evaluation.confusion:
        matrix[label, answer] = count
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    shown = sorted(np.argsort(-mistakes, kind="stable")[:MOST_CLASSES], key=lambda label: evaluation.labels[label])
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    percent, names = PERCENT * fractions[np.ix_(shown, shown)], [evaluation.labels[label] for label in shown]
    colours = np.where(np.eye(len(shown), dtype=bool)[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    axes.imshow(np.dstack([colours, np.sqrt(percent / PERCENT)]))  # the square root makes rare confusions visible
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="right label")
    axes.grid(visible=False)
    size = max(3.5, 9 - 0.2 * len(names))
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            colour = "white" if value > 60 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=size)


def _calibration(calibration: Calibration) -> bytes:
    def panel(axes: Axes, reliability: Reliability, title: str) -> None:
        confidences, accuracy = (
            [getattr(each, name) for each in reliability.bins] for name in ("confidence", "accuracy")
        )
        weight = np.array([each.answers for each in reliability.bins])
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
        axes.plot(confidences, accuracy, color=COLOURS[Vote.SOFTMAX])
        axes.scatter(confidences, accuracy, s=15 + 150 * weight / weight.sum(), color=COLOURS[Vote.SOFTMAX])
        axes.set(title=f"{title}: ECE {reliability.ece:.3f}", xlabel="confidence", ylabel="fraction that is right")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))

    after = f"temperature {calibration.temperature:.2f}"
    return _panels(
        [
            partial(panel, reliability=calibration.before, title="as voted"),
            partial(panel, reliability=calibration.after, title=after),
        ]
    )


def _distances(distances: Distances) -> bytes:
    def panel(axes: Axes, histogram: Histogram, name: str) -> None:
        for counts, label, colour in ((histogram.right, "right", RIGHT), (histogram.wrong, "wrong", WRONG)):
            percent = PERCENT * np.array(counts) / max(sum(counts), 1)
            axes.stairs(percent, histogram.edges, label=f"{label} answers", color=colour, fill=True, alpha=0.5)
        axes.set(xlabel=f"{name} distance to the neighbours", ylabel="% of those answers")
        axes.legend()

    return _panels(
        [
            partial(panel, histogram=distances.mean, name="mean"),
            partial(panel, histogram=distances.median, name="median"),
        ]
    )


def _sensitivity(axes: Axes, sensitivity: Sensitivity) -> None:
    shades = mpl.colormaps["cool"](np.linspace(0, 1, len(sensitivity.values)))
    for value, accuracy, shade in zip(sensitivity.values, sensitivity.accuracy, shades, strict=True):
        _over_k(axes, accuracy, label=f"{value:g}", color=shade)
    axes.set(title=f"{sensitivity.vote} vote", ylabel="accuracy, %")
    axes.legend(title=sensitivity.parameter, loc="upper left", bbox_to_anchor=(1, 1))


def _recall(axes: Axes, recall: Mapping[Effort, Mapping[int, float]]) -> None:
    for (effort, found), vote in zip(recall.items(), (Vote.SOFTMAX, Vote.RANK), strict=False):
        values = [PERCENT * value for value in found.values()]
        axes.plot(list(found), values, marker="o", color=COLOURS[vote], label=effort)
    least = min(0.9, *(value for found in recall.values() for value in found.values()))
    axes.set(xlabel="neighbours, k", ylabel="found by the search, %", ylim=(least * PERCENT - 1, 101))
    axes.legend()


def _scaling(axes: Axes, scaling: Scaling) -> None:
    sizes = np.array([each.images for each in scaling.sizes])
    for each in scaling.sizes:
        axes.scatter([each.images] * len(each.errors), PERCENT * np.array(each.errors), color=RIGHT, alpha=0.5, s=20)
    if scaling.a is not None and scaling.b is not None:
        images = np.geomspace(max(2, sizes.min()), sizes.max(), 100)
        line = 10 ** (scaling.a * np.log10(np.log10(images)) + scaling.b)
        axes.plot(images, line, color=INK, linestyle="--", label=f"a = {scaling.a:.3f}, b = {scaling.b:.3f}")
        axes.legend()
    no_errors = not any(error for each in scaling.sizes for error in each.errors)
    axes.set(xscale="log", yscale="linear" if no_errors else "log", xlabel="images in the memory", ylabel="error, %")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
