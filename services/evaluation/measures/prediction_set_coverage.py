"""Measure conformal prediction sets: how often they contain a right label, and how large they are."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import VoteOptions
from visual_memory.schemas.evaluation_results import EvaluationOptions, PredictionSets
from visual_memory.services.evaluation.measures.accuracy_metrics import Predictions
from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours, slices
from visual_memory.services.voting.conformal_prediction_sets import nonconformity, set_share
from visual_memory.services.voting.decide import TIE

COVERAGES = (0.8, 0.9, 0.95)

Nonconformities = NDArray[np.float64]


def prediction_sets(
    predictions: Predictions, around: Neighbours | None, options: EvaluationOptions
) -> list[PredictionSets] | None:
    """Calibrate sets on the memory's images, each without itself, and measure them on the queries.

    If the memory is its own queries, the sets are calibrated on one half and measured on the other.

    Args:
        predictions: of the queries.
        around: the neighbours of each image of the memory, without itself; None: unknown.
        options: of the predictions, with the seed of the halves.

    Returns:
        One result per coverage; None if there is nothing to calibrate on, or to measure.
    """
    matrix, k = predictions.matrix, predictions.neighbours.k
    scores = _nonconformities(matrix, predictions.neighbours, options)
    if matrix.itself:
        if len(scores) < 2:
            return None
        calibration, queries = np.array_split(np.random.default_rng(options.seed).permutation(len(scores)), 2)
        own = np.sort(scores[calibration])
        return [_measure(predictions, scores, queries, own, coverage) for coverage in COVERAGES]
    if around is None:
        return None
    memory = replace(matrix, query_labels=matrix.image_labels[:-1])
    own, queries = (
        np.sort(_nonconformities(memory, around.sharing(matrix.contents, k), options)),
        np.arange(len(scores)),
    )
    return [_measure(predictions, scores, queries, own, coverage) for coverage in COVERAGES]


def _nonconformities(matrix: NeighbourMatrix, neighbours: Neighbours, options: VoteOptions) -> Nonconformities:
    """The nonconformity of the right labels of each query; see `nonconformity`."""
    parts = []
    for some in slices(len(matrix.query_labels)):
        weights = neighbours.of(some).weights(options)
        parts.append(nonconformity(matrix.query_labels[some], matrix.image_labels[neighbours.rows[some]], weights))
    return np.concatenate(parts)


def _measure(
    predictions: Predictions,
    nonconformities: Nonconformities,
    queries: NDArray[np.int64],
    own: Nonconformities,
    coverage: float,
) -> PredictionSets:
    """Measure the sets of some queries, calibrated on the nonconformities `own`, ascending."""
    least, scores = set_share(own, coverage), predictions.scores[queries]
    shares, right_share = scores / scores.sum(axis=1, keepdims=True), 1 - nonconformities[queries]
    contained = (right_share > TIE) & (right_share >= least - TIE)
    sizes = ((scores > 0) & (shares >= least - TIE)).sum(axis=1)
    return PredictionSets(
        coverage=coverage,
        share=least,
        covered=float((contained | predictions.right[queries]).mean()),  # the winner is in every set
        size=float(np.maximum(sizes, 1).mean()),
        queries=len(queries),
    )
