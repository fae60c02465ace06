"""Novelty: how far a picture is from its neighbours, by the measure of how far the memory's own images are from theirs.

The distance is the mean cosine distance, 1 - similarity, to those that vote (Geirhos et al. 2025 separate new classes
from known ones by it). By itself it says little, as every encoder and every memory has distances of its own; so it
becomes a percentile among those of the memory's own images, each without itself.
"""

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.decision import Novelty


def novelty(similarities: NDArray[np.float64], distances: NDArray[np.float64]) -> Novelty:
    """The novelty of a picture.

    Args:
        similarities: cosine similarities [k] to the neighbours that vote, of those that share a vote to the nearest; at
            least one.
        distances: mean distances [n] of the memory's own images, ascending; at least one.
    """
    distance = float(np.mean(1 - similarities))
    nearer = int(np.searchsorted(distances, distance, side="left"))
    return Novelty(distance=distance, percentile=100 * nearer / len(distances))


def unknown_reason(found: Novelty | None, unknown_above: float | None) -> str | None:
    """Why a picture is unknown, in a sentence; None where it is not."""
    if found is None or found.percentile is None or unknown_above is None or found.percentile <= unknown_above:
        return None
    return (
        f"unknown: its neighbours are at a mean distance of {found.distance:.4f}, which is more than for"
        f" {found.percentile:.1f} % of the memory's own images; above {unknown_above:g} % nothing is answered"
    )
