"""Comparison: what is different in a decision when it is made again, and which images decide the most."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from visual_memory.schemas.decision import Decision, Neighbour
from visual_memory.schemas.explanation import Relabelled, Reweighted

SAME = 1e-9
"""Weights that differ by less, relative to the larger, are equal: the same similarity is not always the same float."""


@dataclass(frozen=True)
class Difference:
    """What is different between two decisions on the same picture."""

    came: list[Neighbour]
    gone: list[Neighbour]
    relabelled: list[Relabelled]
    reweighted: list[Reweighted]


def compare(before: Decision, after: Decision) -> Difference:
    """The neighbours that differ, each list from the nearest; both decisions show all their neighbours."""
    then = {each.image_id: each for each in before.neighbours}
    now = {each.image_id: each for each in after.neighbours}
    both = [(each, now[each.image_id]) for each in before.neighbours if each.image_id in now]
    return Difference(
        came=[each for each in after.neighbours if each.image_id not in then],
        gone=[each for each in before.neighbours if each.image_id not in now],
        relabelled=[
            Relabelled(image_id=old.image_id, before=old.labels, after=new.labels)
            for old, new in both
            if old.labels != new.labels
        ],
        reweighted=[
            Reweighted(image_id=old.image_id, before=old.weight, after=new.weight)
            for old, new in both
            if abs(old.weight - new.weight) > SAME * max(old.weight, new.weight)
        ],
    )


def voted(decision: Decision) -> str | None:
    """The label of the vote alone, whatever a re-rank made of it."""
    return decision.rerank.voted if decision.rerank and decision.rerank.voted else decision.label


@dataclass(frozen=True)
class Part:
    """The part of an image in decisions: the sum of its shares of the votes that its label won, and of how many."""

    share: float
    decisions: int


def influence(decisions: Iterable[Decision]) -> tuple[int, dict[str, Part], dict[str, float]]:
    """How many decisions there are; the parts of images by id, and those of the labels that won, the greatest first."""
    number = 0
    shares, labels, times = defaultdict[str, float](float), defaultdict[str, float](float), Counter[str]()
    for decision in decisions:
        number += 1
        label = voted(decision)
        for each in decision.neighbours if label is not None else ():
            if any(carried == label or carried.startswith(f"{label}/") for carried in each.labels):
                shares[each.image_id] += each.share
                times[each.image_id] += 1
                labels[str(label)] += each.share
    ranked = {image_id: Part(share, times[image_id]) for image_id, share in _ranked(shares)}
    return number, ranked, dict(_ranked(labels))


def _ranked(sums: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    yield from sorted(sums.items(), key=lambda item: (-item[1], item[0]))
