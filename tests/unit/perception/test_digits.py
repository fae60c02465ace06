"""The paper's claim on the demo's pictures: with many neighbours the rank vote keeps what plurality loses."""

import io

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from services.perception.decoding import Limits, decode
from services.perception.loading import load_encoder
from services.settings import EncoderSettings

MEMORY, K = 1200, 100


def png(digit: NDArray[np.float64]) -> bytes:
    """Dark ink on white paper, as in the demo."""
    out = io.BytesIO()
    PIL.Image.fromarray(255 - np.rint(digit * (255 / 16)).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def accuracy(similarities: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, : len(weights)]
    votes = np.stack([((labels[:MEMORY] == label)[nearest] * weights).sum(1) for label in range(10)], axis=1)
    return float((votes.argmax(1) == labels[MEMORY:]).mean())


@pytest.mark.timeout(600)
def test_the_rank_vote_keeps_its_accuracy_at_100_neighbours() -> None:
    digits = load_digits()
    encoder = load_encoder(EncoderSettings(batch_size=32))
    vectors = encoder.encode([decode(png(digit), Limits(10_000, 10_000)) for digit in digits.images])
    similarities = vectors[MEMORY:] @ vectors[:MEMORY].T
    plurality = accuracy(similarities, digits.target, np.ones(K))
    rank = accuracy(similarities, digits.target, 1 / (np.arange(K) + 2))
    assert plurality == pytest.approx(0.811, abs=0.01)
    assert rank == pytest.approx(0.884, abs=0.01)
