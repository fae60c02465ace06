"""A memory classified by itself: every image by the votes of its nearest neighbours, leaving itself out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import VoteOptions
from visual_memory.schemas.judgement import ClassReport
from visual_memory.services.voting.batch_votes import Integers, class_scores, collect_ballots, in_labels, winners_by_k
from visual_memory.services.voting.exact_neighbours import MISSING, Rows, Similarities
from visual_memory.services.voting.group_copies import voting_order
from visual_memory.services.voting.image_reliability import number_labels
from visual_memory.services.voting.vote_weights import vote_weights

MOST_CONFUSIONS = 5
AT_ONCE = 4096
"""Images whose votes are counted at once."""


@dataclass(frozen=True)
class ImagesWithNeighbours:
    """The images of a memory with the neighbours of each.

    Attributes:
        image_ids: of n images, ascending, so that nothing depends on when they came.
        labels: of the same images.
        similarities: float32 [n, w], of the neighbours that vote on each image, the nearest first.
        rows: int64 [n, w], the same neighbours; `MISSING` where there are fewer.
        contents: int64 [n], of the images, a number, 0 or more, that those have in common which share a vote.
    """

    image_ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    similarities: Similarities
    rows: Rows
    contents: Rows


class LeaveOneOutVote(NamedTuple):
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


def voting_neighbours(similarities: Similarities, rows: Rows, contents: Rows, k: int) -> tuple[Similarities, Rows]:
    """Of the neighbours of images those that vote, as in a classification: see `services.voting.group_copies`.

    Args:
        similarities: float32 [n, w], the nearest first.
        rows: int64 [n, w], the same neighbours; `MISSING` where there are fewer.
        contents: int64 [n], see `ImagesWithNeighbours`.
        k: how many contents vote.

    Returns:
        both [n, v], with those that vote only.
    """
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(rows), AT_ONCE)]
    votes = (
        np.concatenate([_vote(similarities[part], rows[part], contents, k) for part in parts]) if parts else rows > 0
    )
    width = int(votes.sum(axis=1).max(initial=1))
    order = np.argsort(~votes, axis=1, kind="stable")[:, :width]
    there = np.take_along_axis(votes, order, 1)
    return (
        np.where(there, np.take_along_axis(similarities, order, 1), np.float32(-1)),
        np.where(there, np.take_along_axis(rows, order, 1), MISSING),
    )


def _vote(similarities: Similarities, rows: Rows, contents: Rows, k: int) -> NDArray[np.bool_]:
    """Whether each neighbour votes."""
    found = voting_order(np.where(rows == MISSING, MISSING, contents[rows]), similarities, k)
    votes = np.zeros(rows.shape, bool)
    np.put_along_axis(votes, found.order, found.ranks != MISSING, 1)
    return votes


def leave_one_out_votes(memories: ImagesWithNeighbours) -> list[LeaveOneOutVote]:
    """What the neighbours of each image say of it, by the rank vote; as `services.voting.decide.decide` counts it."""
    names, codes = number_labels(memories.labels)
    codes = np.concatenate([codes, np.full((1, codes.shape[1]), MISSING)])  # the last row is what nobody votes for
    found: list[LeaveOneOutVote] = []
    for start in range(0, len(memories.image_ids), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found += _opinions(memories, part, codes, names)
    return found


def _opinions(
    memories: ImagesWithNeighbours, part: slice, codes: Integers, names: Sequence[str]
) -> Iterator[LeaveOneOutVote]:
    """Of some images; the labels of all are given by their numbers, with the names of these."""
    rows, similarities = memories.rows[part], memories.similarities[part].astype(np.float64)
    found = voting_order(np.where(rows == MISSING, MISSING, memories.contents[rows]), similarities, rows.shape[1])
    rows = np.take_along_axis(rows, found.order, 1)
    similarities = np.take_along_axis(similarities, found.order, 1)
    votes_for, there = codes[rows], rows != MISSING
    weights = vote_weights(similarities, VoteOptions(), np.maximum(found.ranks, 0)) * (there / found.copies)
    cast = collect_ballots(votes_for)
    won = winners_by_k(cast, weights)[:, -1]
    counted = class_scores(cast, weights)
    total = np.cumsum(counted, axis=1)[:, -1]  # in the order of `decide`, so that the sum is the same to the last bit
    classes = cast.classes.T
    best = np.where(classes == won[:, None], counted, 0).max(axis=1)
    owned = np.where(in_labels(classes, codes[:-1][part]), counted, 0).max(axis=1)
    agreeing = in_labels(votes_for, won[:, None]).any(axis=2).sum(axis=1)
    columns = (won, total, best, owned, agreeing, there.sum(axis=1))
    for label, everything, share, own, agree, asked in zip(*(column.tolist() for column in columns), strict=True):
        yield (
            LeaveOneOutVote(names[label], share / everything, own / everything, agree, asked)
            if asked
            else LeaveOneOutVote()
        )


def class_reports(labels: Sequence[Sequence[str]], votes: Sequence[LeaveOneOutVote]) -> list[ClassReport]:
    """How each class does; the least accurate first, then by name.

    Args:
        labels: of each image.
        votes: of the neighbours of the same images; one that names any label of its image is right for all of them.
    """
    images: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = defaultdict(Counter)
    for own, said in zip(labels, votes, strict=True):
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
