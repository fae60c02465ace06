"""Pruning: an image that voted wrong for others counts less from then on, or not at all (Geirhos et al. 2025).

Each image of a memory is classified by its nearest neighbours, leaving itself out. A neighbour voted right for it where
they have a label in common, else wrong. Soft pruning multiplies the vote of an image with w wrong votes by
1.75 / (1 + w), and by 1 where it has none; hard pruning leaves images with many wrong votes out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.decision.neighbours import NOBODY, Rows

SOFT = 1.75
AT_ONCE = 8192
"""Pairs compared at once: with 32 labels each, that takes 8 MiB."""


def reliability(wrong: int) -> float:
    """What soft pruning multiplies the vote of an image by that gave so many wrong votes."""
    return SOFT / (1 + wrong) if wrong else 1.0


def count_votes(labels: Sequence[Sequence[str]], rows: Rows) -> NDArray[np.int64]:
    """The votes that each image gave, leaving one out.

    Args:
        labels: of each image; n of them.
        rows: int64 [n, k], the neighbours of each image, itself not among them; `NOBODY` where there are fewer.

    Returns:
        wrong and right votes of each image, int64 [n, 2].
    """
    votes = np.zeros((len(labels), 2), np.int64)
    asked, places = np.nonzero(rows != NOBODY)
    voters, codes = rows[asked, places], _codes(labels)
    for start in range(0, len(voters), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        own, given = codes[asked[part]], codes[voters[part]]
        right = ((own[:, :, None] == given[:, None, :]) & (own >= 0)[:, :, None]).any(axis=(1, 2))
        np.add.at(votes, (voters[part], right.astype(np.int64)), 1)
    return votes


def _codes(labels: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """The labels as numbers [n, most labels of one image]; -1 where an image has fewer."""
    numbers = {label: number for number, label in enumerate(sorted({label for each in labels for label in each}))}
    codes = np.full((len(labels), max(map(len, labels), default=0)), -1, np.int64)
    for row, each in enumerate(labels):
        codes[row, : len(each)] = [numbers[label] for label in each]
    return codes
