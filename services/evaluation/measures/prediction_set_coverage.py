"""Prediction sets, as a classification names them: how often they hold a right label, and how large they are."""

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

Misfits = NDArray[np.float64]


def prediction_sets(
    answers: Predictions, around: Neighbours | None, options: EvaluationOptions
) -> list[PredictionSets] | None:
    """Sets calibrated on the memory's own images, each without itself, and measured on the queries.

    The memory asked about itself is calibrated on one half and measured on the other.

    Args:
        answers: to the queries.
        around: the neighbours of each image of the memory, without itself; None where nobody knows them.
        options: of the answers, with the seed of the halves.

    Returns:
        one for each coverage; None where there is nothing to calibrate on, or to measure.
    """
    study, k = answers.study, answers.voters.k
    misfits = _misfits(study, answers.voters, options)
    if study.itself:
        if len(misfits) < 2:
            return None
        known, asked = np.array_split(np.random.default_rng(options.seed).permutation(len(misfits)), 2)
        return [_measured(answers, misfits, asked, np.sort(misfits[known]), coverage) for coverage in COVERAGES]
    if around is None:
        return None
    memory = replace(study, truth=study.votes_for[:-1])
    own, everybody = np.sort(_misfits(memory, around.sharing(study.contents, k), options)), np.arange(len(misfits))
    return [_measured(answers, misfits, everybody, own, coverage) for coverage in COVERAGES]


def _misfits(study: NeighbourMatrix, voters: Neighbours, options: VoteOptions) -> Misfits:
    """How badly the right labels of each query fit; see `nonconformity`."""
    parts = [
        nonconformity(study.truth[some], study.votes_for[voters.rows[some]], voters.of(some).weights(options))
        for some in slices(len(study.truth))
    ]
    return np.concatenate(parts)


def _measured(
    answers: Predictions, misfits: Misfits, asked: NDArray[np.int64], own: Misfits, coverage: float
) -> PredictionSets:
    """The sets of some queries, by the misfits `own`, ascending, of what they are calibrated on."""
    least, scores = set_share(own, coverage), answers.scores[asked]
    shares, right_share = scores / scores.sum(axis=1, keepdims=True), 1 - misfits[asked]
    held = (right_share > TIE) & (right_share >= least - TIE)
    sizes = ((scores > 0) & (shares >= least - TIE)).sum(axis=1)
    return PredictionSets(
        coverage=coverage,
        share=least,
        covered=float((held | answers.right[asked]).mean()),  # the winner is in every set
        size=float(np.maximum(sizes, 1).mean()),
        queries=len(asked),
    )
