"""Rows of a result table: ratios of figures that were measured alternately within one run.

The machines are shared and noisy, so a figure alone says little: what counts is the median of the ratios of pairs.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Measure = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """A stage, our figure, and alternatives that do the same.

    Attributes:
        stage: what is measured, with its size.
        unit: of all figures: a rate, such as ``pictures/s``, or a time, such as ``ms``.
        ours: the median of what this product reaches.
        others: medians of the same for a bare loop that no product can beat, and for what a user would pick instead.
        ratios: how many times as fast as each of them ours is, for rates and times alike; medians over the rounds.
        asked: the least ratio that is asked for, by the other's name; empty where none is.
        note: what one must know to read the row.
    """

    stage: str
    unit: str
    ours: float
    others: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as JSON."""
        return asdict(self)


def compare(
    stage: str,
    unit: str,
    ours: Measure,
    others: Mapping[str, Measure],
    rounds: int = 5,
    asked: Mapping[str, float] | None = None,
    note: str = "",
) -> Row:
    """Measure all alternately for some rounds, after a warm-up round.

    Args:
        stage: as in `Row`.
        unit: as in `Row`; one that ends in ``/s`` is a rate, and more is better.
        ours: measures once, in that unit.
        others: the same for each other.
        rounds: at least 1.
        asked: as in `Row`.
        note: as in `Row`.
    """
    measures = {"": ours, **others}
    for measure in measures.values():
        measure()
    taken = [{name: measure() for name, measure in measures.items()} for _ in range(rounds)]
    faster = {
        name: statistics.median(
            each[""] / each[name] if unit.endswith("/s") else each[name] / each[""] for each in taken
        )
        for name in others
    }
    middle = {name: statistics.median(each[name] for each in taken) for name in measures}
    return Row(stage, unit, middle.pop(""), middle, faster, asked or {}, note)


def seconds(work: Callable[[], object]) -> float:
    """Measure the seconds of a call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rate(number: int, work: Callable[[], object]) -> Measure:
    """A measure: items per second."""
    return lambda: number / seconds(work)


def milliseconds(work: Callable[[], object]) -> Measure:
    """A measure: milliseconds per call."""
    return lambda: 1e3 * seconds(work)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| stage | ours | against | theirs | ours is so many times as fast | asked |", "|---|---|---|---|---|---|"]
    for row in rows:
        stage, ours = row.stage + (f" ({row.note})" if row.note else ""), f"{_figure(row.ours)} {row.unit}"
        for name in row.ratios or ("",):
            theirs = f"{_figure(row.others[name])} {row.unit}" if name in row.others else ""
            ratio = f"{row.ratios[name]:.2f}" if name in row.ratios else ""
            asked = f"{row.asked[name]:.3g}" if name in row.asked else ""
            lines.append(f"| {stage} | {ours} | {name} | {theirs} | {ratio} | {asked} |")
            stage, ours = "", ""
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
