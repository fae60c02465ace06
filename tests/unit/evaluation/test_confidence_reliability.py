"""Calibration: by hand, and where the right temperature is known."""

import numpy as np
import pytest

from visual_memory.services.evaluation.measures.confidence_reliability import confidence, fit_temperature, reliability


def test_confidence_is_the_winners_share() -> None:
    scores = np.array([[0.0, 3.0, 1.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
    assert confidence(scores) == pytest.approx([0.75, 0.5])
    assert confidence(scores, 0.5) == pytest.approx([0.9, 0.5])


def test_the_error_by_hand() -> None:
    sure, right = np.array([0.9, 0.92, 0.5, 1.0]), np.array([True, False, True, True])
    found = reliability(sure, right)
    assert [(each.answers, each.accuracy) for each in found.bins] == [(1, 1.0), (2, 0.5), (1, 1.0)]
    assert [each.confidence for each in found.bins] == pytest.approx([0.5, 0.91, 1.0])
    assert found.ece == pytest.approx(1 / 4 * 0.5 + 2 / 4 * 0.41)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_a_temperature_is_found_again(temperature: float) -> None:
    chance = np.random.default_rng(0)
    scores = chance.random((20_000, 5)) ** 2
    truly = confidence(scores, temperature)
    right = chance.random(len(scores)) < truly
    found = fit_temperature(scores, right)
    assert found == pytest.approx(temperature, rel=0.05)
    assert reliability(confidence(scores, found), right).ece < 0.02
