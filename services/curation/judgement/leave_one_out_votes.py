"""Classify every image of a memory by the votes of its nearest neighbours, leaving the image itself out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import VoteOptions
from visual_memory.schemas.judgement import ClassReport
from visual_memory.services.voting.batch_votes import Integers, class_scores, collect_ballots, in_labels, winners_by_k
from visual_memory.services.voting.brute_force_neighbours import MISSING, Rows, Similarities
from visual_memory.services.voting.group_copies import voting_order
from visual_memory.services.voting.image_reliability import number_labels
from visual_memory.services.voting.vote_weights import vote_weights

MAX_CONFUSIONS = 5
BATCH = 4096
"""Images whose votes are counted together."""


@dataclass(frozen=True)
class ImagesWithNeighbours:
    """The images of a memory, and the neighbours that vote on each.

    Attributes:
        image_ids: of n images, ascending, so that the result does not depend on the order of arrival.
        labels: of the same images.
        similarities: float32 [n, w], of the neighbours that vote on each image, the nearest first.
        rows: int64 [n, w], the same neighbours; `MISSING` where there are fewer.
        contents: int64 [n], 0 or more: images with the same number share one vote.
    """

    image_ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    similarities: Similarities
    rows: Rows
    contents: Rows


class LeaveOneOutVote(NamedTuple):
    """What the neighbours of an image vote for.

    Attributes:
        label: the label with the largest share; empty if there are no neighbours.
        share: of that label, 0 to 1.
        own: the largest share of the image's own labels, 0 to 1.
        agreeing: how many neighbours have the label.
        neighbours: how many neighbours there are.
    """

    label: str = ""
    share: float = 0.0
    own: float = 0.0
    agreeing: int = 0
    neighbours: int = 0


def voting_neighbours(similarities: Similarities, rows: Rows, contents: Rows, k: int) -> tuple[Similarities, Rows]:
    """Select the neighbours that vote, as in a classification: see `services.voting.group_copies`.

    Args:
        similarities: float32 [n, w], the nearest first.
        rows: int64 [n, w], the same neighbours; `MISSING` where there are fewer.
        contents: int64 [n], see `ImagesWithNeighbours`.
        k: how many distinct contents vote.

    Returns:
        similarities and rows [n, v] of the voting neighbours.
    """
    slices = [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)]
    votes = (
        np.concatenate([_votes(similarities[each], rows[each], contents, k) for each in slices]) if slices else rows > 0
    )
    width = int(votes.sum(axis=1).max(initial=1))
    order = np.argsort(~votes, axis=1, kind="stable")[:, :width]
    present = np.take_along_axis(votes, order, 1)
    return (
        np.where(present, np.take_along_axis(similarities, order, 1), np.float32(-1)),
        np.where(present, np.take_along_axis(rows, order, 1), MISSING),
    )


def _votes(similarities: Similarities, rows: Rows, contents: Rows, k: int) -> NDArray[np.bool_]:
    """Whether each neighbour votes."""
    found = voting_order(np.where(rows == MISSING, MISSING, contents[rows]), similarities, k)
    votes = np.zeros(rows.shape, bool)
    np.put_along_axis(votes, found.order, found.ranks != MISSING, 1)
    return votes


def leave_one_out_votes(images: ImagesWithNeighbours) -> list[LeaveOneOutVote]:
    """Count the neighbours' votes on each image by the rank vote, exactly as `services.voting.decide.decide` does."""
    names, codes = number_labels(images.labels)
    codes = np.concatenate([codes, np.full((1, codes.shape[1]), MISSING)])  # the last row is that of `MISSING`
    votes: list[LeaveOneOutVote] = []
    for start in range(0, len(images.image_ids), BATCH):
        votes += _count(images, slice(start, start + BATCH), codes, names)
    return votes


def _count(
    images: ImagesWithNeighbours, batch: slice, codes: Integers, names: Sequence[str]
) -> Iterator[LeaveOneOutVote]:
    """Count the votes on a batch of images.

    Args:
        images: all images.
        batch: the rows of the batch.
        codes: the numbers of the labels of all images, and of `MISSING` last.
        names: the labels by their numbers.
    """
    rows, similarities = images.rows[batch], images.similarities[batch].astype(np.float64)
    found = voting_order(np.where(rows == MISSING, MISSING, images.contents[rows]), similarities, rows.shape[1])
    rows = np.take_along_axis(rows, found.order, 1)
    similarities = np.take_along_axis(similarities, found.order, 1)
    votes_for, present = codes[rows], rows != MISSING
    weights = vote_weights(similarities, VoteOptions(), np.maximum(found.ranks, 0)) * (present / found.copies)
    ballots = collect_ballots(votes_for)
    winners = winners_by_k(ballots, weights)[:, -1]
    scores = class_scores(ballots, weights)
    total = np.cumsum(scores, axis=1)[:, -1]  # sums in the order of `decide`, to be equal to the last bit
    classes = ballots.classes.T
    best = np.where(classes == winners[:, None], scores, 0).max(axis=1)
    own = np.where(in_labels(classes, codes[:-1][batch]), scores, 0).max(axis=1)
    agreeing = in_labels(votes_for, winners[:, None]).any(axis=2).sum(axis=1)
    columns = (winners, total, best, own, agreeing, present.sum(axis=1))
    for label, whole, top, owned, agree, number in zip(*(column.tolist() for column in columns), strict=True):
        yield LeaveOneOutVote(names[label], top / whole, owned / whole, agree, number) if number else LeaveOneOutVote()


def class_reports(labels: Sequence[Sequence[str]], votes: Sequence[LeaveOneOutVote]) -> list[ClassReport]:
    """The accuracy of each class; the least accurate first, then by name.

    Args:
        labels: of each image.
        votes: on the same images; a vote for any label of its image is right for all of them.
    """
    images: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = defaultdict(Counter)
    for own, vote in zip(labels, votes, strict=True):
        images.update(own)
        if vote.label not in own:
            for label in own:
                wrong[label][vote.label] += 1
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


def _most_frequent(confusions: Counter[str]) -> dict[str, int]:
    """The most frequent confusions, by number, then by name; images without neighbours are confused with nothing."""
    named = sorted(
        ((label, number) for label, number in confusions.items() if label), key=lambda pair: (-pair[1], pair)
    )
    return dict(named[:MAX_CONFUSIONS])
