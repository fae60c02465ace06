"""Novelty: how far a query is from its neighbours, compared with the memory's own images.

The distance is the mean cosine distance, 1 - similarity, to the neighbours that vote; Geirhos et al. 2025 separate new
classes from known ones by it. Typical distances depend on the encoder and the memory. So the distance is expressed as a
quantile among those of the memory's own images, each left out of its own vote.
"""

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.decision import Novelty


def novelty(similarities: NDArray[np.float64], distances: NDArray[np.float64]) -> Novelty:
    """The novelty of a query.

    Args:
        similarities: cosine similarities [k] to the neighbours that vote, one for each group that shares a vote: that
            of its nearest; at least one.
        distances: mean distances [n] of the memory's own images, ascending; at least one.
    """
    distance = float(np.mean(1 - similarities))
    nearer = int(np.searchsorted(distances, distance, side="left"))
    return Novelty(distance=distance, quantile=nearer / len(distances))


def unknown_reason(found: Novelty | None, unknown_above: float | None) -> str | None:
    """Why a query is unknown, in a sentence; None where it is not."""
    if found is None or found.quantile is None or unknown_above is None or found.quantile <= unknown_above:
        return None
    return (
        f"unknown: the mean distance to its neighbours is {found.distance:.4f}, more than for {found.quantile:.1%}"
        f" of the memory's own images; the limit is {unknown_above:g}"
    )
