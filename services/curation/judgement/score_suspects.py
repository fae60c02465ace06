"""Score suspects: label errors, near-duplicates and outliers among judged images, ranked, with reasons."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.services.curation.judgement.leave_one_out_votes import ImagesWithNeighbours, LeaveOneOutVote
from visual_memory.services.voting.brute_force_neighbours import MISSING

MAX_SUSPECTS = 1000
"""At most so many suspects of each kind are stored."""
LABEL_ERROR_SHARE = 0.5
"""The share of the vote that makes another label a suspected label error."""
DUPLICATE_SIMILARITY = 0.98
"""The cosine similarity that makes two images near-duplicates."""
OUTLIER_FRACTION = 0.99
"""The fraction of images that must be nearer to their neighbours than an outlier is."""


def find_suspects(images: ImagesWithNeighbours, votes: Sequence[LeaveOneOutVote]) -> list[Suspect]:
    """Find suspects of each kind, the strongest first, then by image id.

    Args:
        images: the images with their neighbours.
        votes: what the neighbours of each image vote for, in the same order.
    """
    return [*_label_errors(images, votes), *_duplicates(images), *_outliers(images, votes)]


def _strongest(scores: Mapping[int, float]) -> list[int]:
    """The rows with the highest scores; of equal scores the lowest rows, which have the lowest ids."""
    return sorted(scores, key=lambda row: (-scores[row], row))[:MAX_SUSPECTS]


def _label_errors(images: ImagesWithNeighbours, votes: Sequence[LeaveOneOutVote]) -> Iterator[Suspect]:
    """Images whose neighbours vote for another label; the score is its share minus that of the image's own labels."""
    scores = {
        row: vote.share - vote.own
        for row, (vote, own) in enumerate(zip(votes, images.labels, strict=True))
        if vote.share >= LABEL_ERROR_SHARE and vote.label not in own
    }
    for row in _strongest(scores):
        vote, own = votes[row], list(images.labels[row])
        yield Suspect(
            suspicion=Suspicion.LABEL,
            image_id=images.image_ids[row],
            labels=own,
            score=scores[row],
            reason=f"{vote.agreeing} of its {vote.neighbours} neighbours are {vote.label}, with {vote.share:.0%} of the"
            f" vote; {' and '.join(own)} has {vote.own:.0%}",
            suggestion=vote.label,
        )


def _duplicates(images: ImagesWithNeighbours) -> Iterator[Suspect]:
    """Of near-duplicates all but the one with the lowest id; the score is the similarity."""
    own_row = np.arange(len(images.image_ids))[:, None]
    alike = (images.similarities >= DUPLICATE_SIMILARITY) & (images.rows != MISSING) & (images.rows < own_row)
    columns = {int(row): int(alike[row].argmax()) for row in np.flatnonzero(alike.any(axis=1))}
    for row in _strongest({row: float(images.similarities[row, column]) for row, column in columns.items()}):
        other, similarity = int(images.rows[row, columns[row]]), float(images.similarities[row, columns[row]])
        own, theirs = list(images.labels[row]), list(images.labels[other])
        differ = f"but is labelled {' and '.join(own)}, not {' and '.join(theirs)}"
        yield Suspect(
            suspicion=Suspicion.DUPLICATE,
            image_id=images.image_ids[row],
            labels=own,
            score=similarity,
            reason=f"it is nearly the same as {images.image_ids[other]} (similarity {similarity:.4f}), "
            + (differ if set(own) != set(theirs) else "with the same labels"),
            suggestion=images.image_ids[other],
        )


def _outliers(images: ImagesWithNeighbours, votes: Sequence[LeaveOneOutVote]) -> Iterator[Suspect]:
    """The images furthest from their neighbours; the score is the fraction of the other images that are nearer."""
    present = images.rows != MISSING
    if len(present) < 2:
        return
    distances = np.where(present, 1 - images.similarities, 0).sum(axis=1, dtype=np.float64) / present.sum(axis=1)
    nearer = np.searchsorted(np.sort(distances), distances) / (len(distances) - 1)
    median = float(np.median(distances))
    for row in _strongest({int(row): float(nearer[row]) for row in np.flatnonzero(nearer >= OUTLIER_FRACTION)}):
        yield Suspect(
            suspicion=Suspicion.OUTLIER,
            image_id=images.image_ids[row],
            labels=list(images.labels[row]),
            score=float(nearer[row]),
            reason=f"its neighbours are at a distance of {distances[row]:.3f}, and {nearer[row]:.1%} of the images are"
            f" nearer to theirs (median {median:.3f})",
            suggestion=votes[row].label,
        )
