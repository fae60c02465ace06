"""Suspects: images that deserve a look, from the neighbours of each, leaving itself out; ranked, with reasons."""

from collections.abc import Iterator, Sequence

import numpy as np

from schemas.judgement import Suspect, Suspicion
from services.decision.leave_one_out import Memories, Opinion
from services.decision.neighbours import NOBODY

MOST = 1000
"""So many of each kind are named."""
AGREED = 0.5
"""Share of the vote from which on neighbours agree on a label."""
DUPLICATE = 0.98
"""Cosine similarity from which on two images are nearly the same."""
FAR = 0.99
"""The part of the images that must be nearer to their neighbours than an outlier is."""


def suspects(memories: Memories, opinions: Sequence[Opinion]) -> list[Suspect]:
    """Every suspicion by its kind: the strongest first, then by image id.

    Args:
        memories: the images with their neighbours.
        opinions: what the neighbours say of each image, in the same order.
    """
    kinds = (_label_errors(memories, opinions), _duplicates(memories), _outliers(memories, opinions))
    return [each for found in kinds for each in sorted(found, key=lambda one: (-one.score, one.image_id))[:MOST]]


def _label_errors(memories: Memories, opinions: Sequence[Opinion]) -> Iterator[Suspect]:
    """Images whose neighbours agree on another label; the score is its share less that of the image's own."""
    for row, said in enumerate(opinions):
        own = list(memories.labels[row])
        if said.label in own or said.share < AGREED:
            continue
        yield Suspect(
            suspicion=Suspicion.LABEL,
            image_id=memories.image_ids[row],
            labels=own,
            score=said.share - said.own,
            reason=f"{said.agreeing} of its {said.asked} neighbours are {said.label}, with {said.share:.0%} of the"
            f" vote; {' and '.join(own)} has {said.own:.0%}",
            suggestion=said.label,
        )


def _duplicates(memories: Memories) -> Iterator[Suspect]:
    """Of images that are nearly the same, all but that with the lowest id; the score is the similarity."""
    here = np.arange(len(memories.image_ids))[:, None]
    alike = (memories.similarities >= DUPLICATE) & (memories.rows != NOBODY) & (memories.rows < here)
    for row in np.flatnonzero(alike.any(axis=1)).tolist():
        place = int(alike[row].argmax())
        other, similarity = int(memories.rows[row, place]), float(memories.similarities[row, place])
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


def _outliers(memories: Memories, opinions: Sequence[Opinion]) -> Iterator[Suspect]:
    """The images that are furthest from their neighbours; the score is the part of the others that are nearer."""
    there = memories.rows != NOBODY
    if len(there) < 2:
        return
    distances = np.where(there, 1 - memories.similarities, 0).sum(axis=1, dtype=np.float64) / there.sum(axis=1)
    nearer = np.searchsorted(np.sort(distances), distances) / (len(distances) - 1)
    usual = float(np.median(distances))
    for row in np.flatnonzero(nearer >= FAR).tolist():
        yield Suspect(
            suspicion=Suspicion.OUTLIER,
            image_id=memories.image_ids[row],
            labels=list(memories.labels[row]),
            score=float(nearer[row]),
            reason=f"its neighbours are at a distance of {distances[row]:.3f}, and {nearer[row]:.1%} of the images are"
            f" nearer to theirs (median {usual:.3f})",
            suggestion=opinions[row].label,
        )
