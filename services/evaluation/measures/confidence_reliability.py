"""Confidence: whether an answer with a share of 0.8 is right in 8 of 10 cases, and a temperature that makes it so."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from visual_memory.schemas.evaluation_results import Bin, Reliability

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
SURE = 1e-6
"""How near to 0 and 1 a confidence may come while a temperature is fitted: no single answer outweighs all others."""

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


def confidence(scores: Floats, temperature: float = 1.0) -> Floats:
    """The winner's share of the vote.

    Args:
        scores: [n, b], the score of every class of a query, at least one above 0; 0 where there is none.
        temperature: scores are taken to the power of 1 / temperature, above 0.

    Returns:
        [n], above 0 to 1.
    """
    relative = scores / scores.max(axis=1, keepdims=True)
    shares: Floats = np.reciprocal(np.power(relative, 1 / temperature).sum(axis=1))
    return shares


def fit_temperature(scores: Floats, right: Truths) -> float:
    """The temperature under which the winner's share says best how often it is right: the least logarithmic loss.

    Args:
        scores: [n, b], as for `confidence`.
        right: [n], whether the winner is right.

    Returns:
        0.05 to 20.
    """

    def loss(exponent: float) -> float:
        sure = np.clip(confidence(scores, np.exp(exponent)), SURE, 1 - SURE)
        return float(-np.mean(np.where(right, np.log(sure), np.log1p(-sure))))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def reliability(confidences: Floats, right: Truths) -> Reliability:
    """The reliability diagram over 15 equal parts of 0 to 1, and the expected calibration error.

    Args:
        confidences: [n], 0 to 1, at least one.
        right: [n], whether each answer is right.
    """
    part = np.minimum((confidences * BINS).astype(int), BINS - 1)
    answers = np.bincount(part, minlength=BINS)
    held = answers > 0
    sure = np.bincount(part, confidences, BINS)[held] / answers[held]
    accuracy = np.bincount(part, right, BINS)[held] / answers[held]
    return Reliability(
        ece=float(np.average(np.abs(sure - accuracy), weights=answers[held])),
        bins=[
            Bin(confidence=one, accuracy=other, answers=number)
            for one, other, number in zip(sure.tolist(), accuracy.tolist(), answers[held].tolist(), strict=True)
        ],
    )
