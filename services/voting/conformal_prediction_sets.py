"""Prediction sets with a chosen coverage: split conformal prediction, calibrated on the memory's own images.

The nonconformity of a label is 1 less its share of the vote. The memory's own images, each left out of its own vote,
give the distribution of the nonconformity of right labels. The set holds every label whose nonconformity is at most
the quantile of this distribution at the chosen coverage. For queries drawn like the images of the memory, it then
holds the right label with that probability or more, up to 1 / (n + 1) and the effect of leaving images out.

Three limits, which the decision shows:

- The set always holds the winner, so it is never empty. Its coverage is then at least the accuracy of the vote.
- A label without a vote is in no set. Where right labels get no vote more often than the coverage allows, the set holds
  all labels that got a vote, and covers less than was requested.
- The same happens where the memory has too few images for the quantile.
"""

import math

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""In floating point, 0.07 * 100 exceeds 7, and would be rounded up to 8."""


def nonconformity(
    own: NDArray[np.int64], neighbours: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The nonconformity of images: 1 less the share of the vote of the best of their labels.

    Args:
        own: labels int64 [n, m] of the images, as numbers; below 0: none.
        neighbours: labels int64 [n, k, m] of the neighbours that vote, in the same numbers.
        weights: float64 [n, k] of these neighbours, 0 where there is none.

    Returns:
        float64 [n], 0 to 1; 1 where no neighbour votes.
    """
    total = (weights * (neighbours >= 0).sum(axis=2)).sum(axis=1)
    best = np.zeros(len(own))
    for label in own.T[..., None]:
        carried = (neighbours == label[..., None]).any(axis=2) & (label >= 0)
        best = np.maximum(best, (weights * carried).sum(axis=1))
    share: NDArray[np.float64] = np.divide(best, total, out=np.zeros_like(best), where=total > 0)
    return 1 - share


def set_share(nonconformities: NDArray[np.float64], coverage: float) -> float:
    """The least share of the vote of a label in the set.

    Args:
        nonconformities: float64 [n], of the memory's own images, ascending; at least one.
        coverage: the probability with which the set holds the right label, 0 to 1.
    """
    rank = math.ceil((len(nonconformities) + 1) * coverage - ROUNDING)
    return 0.0 if rank > len(nonconformities) else max(0.0, 1 - float(nonconformities[rank - 1]))
