"""Pruning: wrong votes of an image reduce its weight, or exclude it from voting (Geirhos et al. 2025).

Wrong votes are counted leaving one out: each image of a memory is classified by its nearest neighbours without itself.
A neighbour's vote is right where the two have a label in common, else wrong. Soft pruning multiplies the weight of an
image with w wrong votes by 1.75 / (1 + w), or by 1 where w is 0. Hard pruning excludes images with many wrong votes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.voting.batch_votes import Integers, shares_label
from visual_memory.services.voting.brute_force_neighbours import MISSING

SOFT = 1.75
SOFT_K = 10
"""Neighbours over which soft pruning counts wrong votes, as in the authors' code."""
HARD_K = 100
HARD_VOTES = 1.28
"""The default threshold of hard pruning, in wrong votes per counted neighbour: 128 for 100 neighbours, as in the paper.
An image has on average as many votes as there are neighbours, whatever the size of the memory."""
HARD_TIMES = 3
"""The threshold is at least this multiple of the mean: where classes have fewer images than there are neighbours, most
votes must be wrong. Chosen on the garments and digits: with 4, no garment was excluded."""
AT_ONCE = 512
"""Images whose votes are compared at once; with 32 labels each and 10 neighbours they take a few MiB."""


def reliability(wrong: NDArray[np.integer | np.floating]) -> NDArray[np.float64]:
    """The factors of soft pruning for numbers of wrong votes."""
    return np.where(wrong > 0, SOFT / (1 + wrong), 1.0)


def votes_are_right(labels: Sequence[Sequence[str]], rows: Integers) -> NDArray[np.bool_]:
    """Whether each neighbour of each image of a memory has a label in common with it.

    Args:
        labels: of each image; n of them.
        rows: int64 [n, k], the neighbours of each image, itself not among them; `MISSING` where there are fewer.

    Returns:
        [n, k]; undefined where there is no neighbour.
    """
    (_, codes), right = number_labels(labels), np.zeros(rows.shape, bool)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        right[part] = shares_label(codes[rows[part]], codes[part])
    return right


def count_votes(rows: Integers, right: NDArray[np.bool_]) -> Integers:
    """Count the votes that each image of a memory gave, leaving one out.

    Args:
        rows: int64 [n, k], the neighbours of each image; `MISSING` where there are fewer.
        right: [n, k], whether the neighbour has a label in common with the image.

    Returns:
        wrong and right votes of each image, int64 [n, 2].
    """
    given = [rows[(rows != MISSING) & (right == each)] for each in (False, True)]
    return np.stack([np.bincount(voters, minlength=len(rows)) for voters in given], axis=1)


def hard_threshold(wrong: Integers, k: int) -> int:
    """The default of hard pruning: the least number of wrong votes that excludes an image.

    Args:
        wrong: int64 [images], wrong votes of the whole memory.
        k: the neighbours over which they were counted.
    """
    return int(np.ceil(max(HARD_VOTES * k, HARD_TIMES * wrong.mean())))


def number_labels(labels: Sequence[Sequence[str]]) -> tuple[list[str], Integers]:
    """All labels, and those of each image as numbers, int64 [n, most labels of one], padded with `MISSING`."""
    names = sorted({label for each in labels for label in each})
    numbers = {label: number for number, label in enumerate(names)}
    codes = np.full((len(labels), max(map(len, labels), default=0)), MISSING, np.int64)
    for row, each in zip(codes, labels, strict=True):
        row[: len(each)] = [numbers[label] for label in each]
    return names, codes
