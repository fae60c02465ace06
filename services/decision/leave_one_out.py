"""A memory classified by itself: every image by the votes of its nearest neighbours, leaving itself out."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.decision import ClassifyOptions
from schemas.judgement import ClassReport
from services.decision.neighbours import NOBODY, Rows, Similarities
from services.decision.votes import decide

MOST_CONFUSIONS = 5


@dataclass(frozen=True)
class Memories:
    """The images of a memory with the neighbours of each.

    Attributes:
        image_ids: of n images, ascending, so that nothing depends on when they came.
        labels: of the same images.
        similarities: float32 [n, k], of each image's neighbours, the nearest first.
        rows: int64 [n, k], the same neighbours; `NOBODY` where there are fewer.
        contents: of the images, what those that share a vote have in common.
    """

    image_ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    similarities: Similarities
    rows: Rows
    contents: Sequence[str]


@dataclass(frozen=True)
class Opinion:
    """What its neighbours say of an image.

    Attributes:
        label: the one that they vote for; empty where it has no neighbours.
        share: of that label, 0 to 1.
        own: share of the image's own labels, of the largest; 0 to 1.
        agreeing: how many of the neighbours carry the label.
        asked: how many neighbours there are.
    """

    label: str = ""
    share: float = 0.0
    own: float = 0.0
    agreeing: int = 0
    asked: int = 0


@dataclass(frozen=True)
class _Voter:
    image_id: str
    labels: Sequence[str]
    similarity: float
    group: str
    reliability: float = 1.0


def opinion(memories: Memories, row: int) -> Opinion:
    """What the neighbours of an image say of it, by the rank vote."""
    found = [
        _Voter(memories.image_ids[there], memories.labels[there], similarity, memories.contents[there])
        for there, similarity in zip(memories.rows[row].tolist(), memories.similarities[row].tolist(), strict=True)
        if there != NOBODY
    ]
    if not found:
        return Opinion()
    shares = decide(found, ClassifyOptions(show=0), "").shares
    own = max((each.share for each in shares if each.label in memories.labels[row]), default=0.0)
    agreeing = sum(shares[0].label in voter.labels for voter in found)
    return Opinion(shares[0].label, shares[0].share, own, agreeing, len(found))


def report(labels: Sequence[Sequence[str]], opinions: Sequence[Opinion]) -> list[ClassReport]:
    """How each class does; the least accurate first, then by name.

    Args:
        labels: of each image.
        opinions: of the neighbours of the same images; one that names any label of its image is right for all of them.
    """
    images: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = defaultdict(Counter)
    for own, said in zip(labels, opinions, strict=True):
        images.update(own)
        if said.label not in own:
            for label in own:
                wrong[label][said.label] += 1
    reports = [
        ClassReport(
            label=label,
            images=number,
            accuracy=1 - wrong[label].total() / number,
            confused_with=_most_frequent(wrong[label]),
        )
        for label, number in images.items()
    ]
    return sorted(reports, key=lambda each: (each.accuracy, each.label))


def _most_frequent(taken_for: Counter[str]) -> dict[str, int]:
    """Those that an image was taken for, by number, then by name; an image without neighbours was taken for nothing."""
    named = sorted(((label, number) for label, number in taken_for.items() if label), key=lambda pair: (-pair[1], pair))
    return dict(named[:MOST_CONFUSIONS])
