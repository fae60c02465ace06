"""The paper's claim on the demo's pictures: with many neighbours the rank vote keeps what plurality loses."""

import io
from dataclasses import dataclass

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from schemas.decision import ClassifyOptions, Vote
from services.decision.votes import decide
from services.perception.decoding import Limits, decode
from services.perception.loading import load_encoder
from services.settings import EncoderSettings

MEMORY, K = 1200, 100


@dataclass(frozen=True)
class Near:
    image_id: str
    similarity: float
    labels: list[str]
    reliability: float = 1.0


def png(digit: NDArray[np.float64]) -> bytes:
    """Dark ink on white paper, as in the demo."""
    out = io.BytesIO()
    PIL.Image.fromarray(255 - (digit * 15.9).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def accuracy(similarities: NDArray[np.float32], labels: NDArray[np.int64], vote: Vote) -> float:
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :K]
    options = ClassifyOptions(k=K, vote=vote)
    right = 0
    for row, order, label in zip(similarities, nearest, labels[MEMORY:], strict=True):
        near = [Near(str(place), float(row[place]), [str(labels[place])]) for place in order]
        right += decide(near, options, "any").label == str(label)
    return right / len(similarities)


@pytest.mark.timeout(600)
def test_the_rank_vote_keeps_its_accuracy_at_100_neighbours() -> None:
    digits = load_digits()
    encoder = load_encoder(EncoderSettings(batch_size=32))
    vectors = encoder.encode([decode(png(digit), Limits(10_000, 10_000)) for digit in digits.images])
    similarities = vectors[MEMORY:] @ vectors[:MEMORY].T
    plurality = accuracy(similarities, digits.target, Vote.PLURALITY)
    rank = accuracy(similarities, digits.target, Vote.RANK)
    assert plurality == pytest.approx(0.824, abs=0.01)
    assert rank == pytest.approx(0.888, abs=0.01)
