"""The formulas of the four votes: how much a neighbour's vote weighs (Geirhos et al. 2025, section 2).

Rank i counts from 0, s is the cosine similarity, d = 1 - s.

| vote      | weight of the neighbour at rank i |
|-----------|-----------------------------------|
| plurality | 1                                 |
| distance  | exp(-d)                           |
| softmax   | exp(s / temperature)              |
| rank      | 1 / (i + alpha)                   |
"""

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import Vote, VoteOptions

Floats = NDArray[np.float64]


def vote_weights(similarities: Floats, options: VoteOptions, ranks: NDArray[np.int64] | None = None) -> Floats:
    """Weights of neighbours that share their rank with no other and have no wrong votes.

    Args:
        similarities: cosine similarities [..., k], the nearest first.
        options: which vote, with its alpha or temperature.
        ranks: [..., k], 0 or more; None: 0, 1, ... k - 1.

    Returns:
        weights [..., k], each above 0.
    """
    match options.vote:
        case Vote.PLURALITY:
            return np.ones_like(similarities)
        case Vote.DISTANCE:
            return np.exp(similarities - 1.0)
        case Vote.SOFTMAX:
            return np.exp(similarities / options.temperature)
        case Vote.RANK:
            by_rank = np.arange(similarities.shape[-1], dtype=np.float64) if ranks is None else ranks
            return np.broadcast_to(np.reciprocal(by_rank + options.alpha), similarities.shape)
