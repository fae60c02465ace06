"""Calibrate confidence: compare the winner's share with how often it is right, and fit a temperature."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from visual_memory.schemas.evaluation_results import Bin, Reliability

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
CLIP = 1e-6
"""Confidences are clipped to this distance from 0 and 1 for fitting, so that no answer outweighs all others."""

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


def confidence(scores: Floats, temperature: float = 1.0) -> Floats:
    """The winner's share of the vote.

    Args:
        scores: [n, b], the score of every class of a query, at least one above 0; 0 for padding.
        temperature: above 0; scores are raised to the power of 1 / temperature.

    Returns:
        [n], above 0 to 1.
    """
    relative = scores / scores.max(axis=1, keepdims=True)
    shares: Floats = np.reciprocal(np.power(relative, 1 / temperature).sum(axis=1))
    return shares


def fit_temperature(scores: Floats, right: Truths) -> float:
    """Fit the temperature for which the winner's share predicts best whether it is right: the least log loss.

    Args:
        scores: [n, b], as for `confidence`.
        right: [n], whether the winner is right.

    Returns:
        0.05 to 20.
    """

    def loss(exponent: float) -> float:
        confidences = np.clip(confidence(scores, np.exp(exponent)), CLIP, 1 - CLIP)
        return float(-np.mean(np.where(right, np.log(confidences), np.log1p(-confidences))))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def reliability(confidences: Floats, right: Truths) -> Reliability:
    """The reliability diagram over 15 equal bins from 0 to 1, and the expected calibration error.

    Args:
        confidences: [n], 0 to 1, at least one.
        right: [n], whether each answer is right.
    """
    bin_of = np.minimum((confidences * BINS).astype(int), BINS - 1)
    answers = np.bincount(bin_of, minlength=BINS)
    filled = answers > 0
    mean = np.bincount(bin_of, confidences, BINS)[filled] / answers[filled]
    accuracy = np.bincount(bin_of, right, BINS)[filled] / answers[filled]
    return Reliability(
        ece=float(np.average(np.abs(mean - accuracy), weights=answers[filled])),
        bins=[
            Bin(confidence=one, accuracy=other, answers=number)
            for one, other, number in zip(mean.tolist(), accuracy.tolist(), answers[filled].tolist(), strict=True)
        ],
    )
