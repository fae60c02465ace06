"""Prediction sets with a chosen coverage: split conformal prediction on the memory.

How badly a label fits a picture is 1 less its share of the vote. The memory's own images, each without itself, tell how
badly right labels fit: the set holds every label that fits no worse than the right one does for the asked part of
them. For pictures drawn like those in memory it then holds the right label with that probability or more, up to
1 / (n + 1), and what being left out of one's own memory changes.

Three limits, which the decision shows. The set always holds the winner, so that it is never empty; its coverage is
then at least the accuracy of the vote, whatever was asked. A label that no neighbour voted for is in no set; where the
right label gets no vote for more of the memory's images than may be missed, the set holds all that got a vote, and
covers less than was asked. So it does where the memory has too few images to tell.
"""

import math

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""As floats, 0.07 * 100 is more than 7, and would be rounded up to 8."""


def nonconformity(
    own: NDArray[np.int64], neighbours: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How badly the right labels of images fit: 1 less the share of the vote of the best of them.

    Args:
        own: labels int64 [n, m] of the images, as numbers; below 0: none.
        neighbours: labels int64 [n, k, m] of those who vote, in the same numbers.
        weights: float64 [n, k] of those who vote, 0 where there is none.

    Returns:
        float64 [n], 0 to 1; 1 where nobody votes.
    """
    total = (weights * (neighbours >= 0).sum(axis=2)).sum(axis=1)
    best = np.zeros(len(own))
    for label in own.T[..., None]:
        carried = (neighbours == label[..., None]).any(axis=2) & (label >= 0)
        best = np.maximum(best, (weights * carried).sum(axis=1))
    share: NDArray[np.float64] = np.divide(best, total, out=np.zeros_like(best), where=total > 0)
    return 1 - share


def set_share(misfits: NDArray[np.float64], coverage: float) -> float:
    """The share of the vote from which on a label is in the set.

    Args:
        misfits: the nonconformity float64 [n] of the memory's own images, ascending; at least one.
        coverage: the probability that the set is to hold the right label with, 0 to 1.
    """
    rank = math.ceil((len(misfits) + 1) * coverage - ROUNDING)
    return 0.0 if rank > len(misfits) else max(0.0, 1 - float(misfits[rank - 1]))
