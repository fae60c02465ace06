"""Pruning: an image that voted wrong for others counts less from then on, or not at all (Geirhos et al. 2025).

Each image of a memory is classified by its nearest neighbours, leaving itself out. A neighbour voted right for it where
they have a label in common, else wrong. Soft pruning multiplies the vote of an image with w wrong votes by
1.75 / (1 + w), and by 1 where it has none; hard pruning leaves images with many wrong votes out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.voting.batch_votes import Integers, shares_label
from visual_memory.services.voting.exact_neighbours import MISSING

SOFT = 1.75
SOFT_K = 10
"""Over how many neighbours the wrong votes of soft pruning are counted, as in the authors' code."""
HARD_K = 100
HARD_VOTES = 1.28
"""Wrong votes for each neighbour they are counted over, from which on hard pruning leaves an image out: 128, as in the
paper. An image has on average as many votes as there are neighbours, so the size of the memory does not matter."""
HARD_TIMES = 3
"""And so many times the mean: where classes hold fewer images than there are neighbours, most votes must be wrong.
Picked after a look at the garments and digits: with 4 times nothing was left out of the garments."""
AT_ONCE = 512
"""Images whose votes are compared at once: with 32 labels each and 10 neighbours, that takes a few MiB."""


def reliability(wrong: NDArray[np.integer | np.floating]) -> NDArray[np.float64]:
    """What soft pruning multiplies the votes of images by that gave so many wrong votes."""
    return np.where(wrong > 0, SOFT / (1 + wrong), 1.0)


def votes_are_right(labels: Sequence[Sequence[str]], rows: Integers) -> NDArray[np.bool_]:
    """Whether each neighbour of each image of a memory has a label in common with it.

    Args:
        labels: of each image; n of them.
        rows: int64 [n, k], the neighbours of each image, itself not among them; `MISSING` where there are fewer.

    Returns:
        [n, k]; of no meaning where there is nobody.
    """
    (_, codes), right = number_labels(labels), np.zeros(rows.shape, bool)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        right[part] = shares_label(codes[rows[part]], codes[part])
    return right


def count_votes(rows: Integers, right: NDArray[np.bool_]) -> Integers:
    """The votes that each image of a memory gave, leaving one out.

    Args:
        rows: int64 [n, k], the neighbours of each image; `MISSING` where there are fewer.
        right: [n, k], whether the neighbour has a label in common with the image.

    Returns:
        wrong and right votes of each image, int64 [n, 2].
    """
    given = [rows[(rows != MISSING) & (right == each)] for each in (False, True)]
    return np.stack([np.bincount(voters, minlength=len(rows)) for voters in given], axis=1)


def hard_threshold(wrong: Integers, k: int) -> int:
    """Wrong votes from which on hard pruning leaves an image out, where nobody says otherwise.

    Args:
        wrong: int64 [images], wrong votes of the whole memory.
        k: over how many neighbours they were counted.
    """
    return int(np.ceil(max(HARD_VOTES * k, HARD_TIMES * wrong.mean())))


def number_labels(labels: Sequence[Sequence[str]]) -> tuple[list[str], Integers]:
    """All labels, and those of each image by their numbers [n, most labels of one]; `MISSING` where it has fewer."""
    names = sorted({label for each in labels for label in each})
    numbers = {label: number for number, label in enumerate(names)}
    codes = np.full((len(labels), max(map(len, labels), default=0)), MISSING, np.int64)
    for row, each in zip(codes, labels, strict=True):
        row[: len(each)] = [numbers[label] for label in each]
    return names, codes
