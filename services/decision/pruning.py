"""What the wrong votes of an image cost it (paper, section on pruning)."""

import numpy as np
from numpy.typing import NDArray

from services.decision.neighbours import NOBODY
from services.decision.tally import Numbers

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


def wrong_votes(rows: Numbers, right: NDArray[np.bool_], images: int) -> Numbers:
    """How often each image of a memory was among the neighbours of another without a label in common.

    Args:
        rows: int64 [n, k], the neighbours of each image; `NOBODY` where there is none.
        right: [n, k], whether the neighbour has a label in common with the image.
        images: how many the memory holds.

    Returns:
        int64 [images].
    """
    return np.bincount(rows[~right & (rows != NOBODY)], minlength=images)


def soft(wrong: Numbers) -> NDArray[np.float64]:
    """What votes are multiplied by because of so many wrong votes."""
    return np.where(wrong > 0, SOFT / (1 + wrong), 1.0)


def hard_threshold(wrong: Numbers, k: int) -> int:
    """Wrong votes from which on hard pruning leaves an image out, where nobody says otherwise.

    Args:
        wrong: int64 [images], wrong votes of the whole memory.
        k: over how many neighbours they were counted.
    """
    return int(np.ceil(max(HARD_VOTES * k, HARD_TIMES * wrong.mean())))
