"""Suspects: images that deserve a look, from the neighbours of each, leaving itself out; ranked, with reasons."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.services.curation.judgement.leave_one_out_votes import ImagesWithNeighbours, LeaveOneOutVote
from visual_memory.services.voting.exact_neighbours import MISSING

MOST = 1000
"""So many of each kind are named."""
AGREED = 0.5
"""Share of the vote from which on neighbours agree on a label."""
DUPLICATE = 0.98
"""Cosine similarity from which on two images are nearly the same."""
FAR = 0.99
"""The part of the images that must be nearer to their neighbours than an outlier is."""


def find_suspects(memories: ImagesWithNeighbours, opinions: Sequence[LeaveOneOutVote]) -> list[Suspect]:
    """Every suspicion by its kind: the strongest first, then by image id.

    Args:
        memories: the images with their neighbours.
        opinions: what the neighbours say of each image, in the same order.
    """
    return [*_label_errors(memories, opinions), *_duplicates(memories), *_outliers(memories, opinions)]


def _strongest(scores: Mapping[int, float]) -> list[int]:
    """The rows with the highest scores, then the lowest, as rows are in the order of ids."""
    return sorted(scores, key=lambda row: (-scores[row], row))[:MOST]


def _label_errors(memories: ImagesWithNeighbours, opinions: Sequence[LeaveOneOutVote]) -> Iterator[Suspect]:
    """Images whose neighbours agree on another label; the score is its share less that of the image's own."""
    scores = {
        row: said.share - said.own
        for row, (said, own) in enumerate(zip(opinions, memories.labels, strict=True))
        if said.share >= AGREED and said.label not in own
    }
    for row in _strongest(scores):
        said, own = opinions[row], list(memories.labels[row])
        yield Suspect(
            suspicion=Suspicion.LABEL,
            image_id=memories.image_ids[row],
            labels=own,
            score=scores[row],
            reason=f"{said.agreeing} of its {said.asked} neighbours are {said.label}, with {said.share:.0%} of the"
            f" vote; {' and '.join(own)} has {said.own:.0%}",
            suggestion=said.label,
        )


def _duplicates(memories: ImagesWithNeighbours) -> Iterator[Suspect]:
    """Of images that are nearly the same, all but that with the lowest id; the score is the similarity."""
    here = np.arange(len(memories.image_ids))[:, None]
    alike = (memories.similarities >= DUPLICATE) & (memories.rows != MISSING) & (memories.rows < here)
    places = {int(row): int(alike[row].argmax()) for row in np.flatnonzero(alike.any(axis=1))}
    for row in _strongest({row: float(memories.similarities[row, place]) for row, place in places.items()}):
        other, similarity = int(memories.rows[row, places[row]]), float(memories.similarities[row, places[row]])
        own, theirs = list(memories.labels[row]), list(memories.labels[other])
        differ = f"but is labelled {' and '.join(own)}, not {' and '.join(theirs)}"
        yield Suspect(
            suspicion=Suspicion.DUPLICATE,
            image_id=memories.image_ids[row],
            labels=own,
            score=similarity,
            reason=f"it is nearly the same as {memories.image_ids[other]} (similarity {similarity:.4f}), "
            + (differ if set(own) != set(theirs) else "with the same labels"),
            suggestion=memories.image_ids[other],
        )


def _outliers(memories: ImagesWithNeighbours, opinions: Sequence[LeaveOneOutVote]) -> Iterator[Suspect]:
    """The images that are furthest from their neighbours; the score is the part of the others that are nearer."""
    there = memories.rows != MISSING
    if len(there) < 2:
        return
    distances = np.where(there, 1 - memories.similarities, 0).sum(axis=1, dtype=np.float64) / there.sum(axis=1)
    nearer = np.searchsorted(np.sort(distances), distances) / (len(distances) - 1)
    usual = float(np.median(distances))
    for row in _strongest({int(row): float(nearer[row]) for row in np.flatnonzero(nearer >= FAR)}):
        yield Suspect(
            suspicion=Suspicion.OUTLIER,
            image_id=memories.image_ids[row],
            labels=list(memories.labels[row]),
            score=float(nearer[row]),
            reason=f"its neighbours are at a distance of {distances[row]:.3f}, and {nearer[row]:.1%} of the images are"
            f" nearer to theirs (median {usual:.3f})",
            suggestion=opinions[row].label,
        )
