"""The paper on the demo's pictures: the rank vote keeps what plurality loses, and soft pruning does no harm."""

import io

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from schemas.decision import Prune, Vote
from schemas.evaluation import EvaluationOptions
from services.evaluation.experiments import search
from services.evaluation.measures import curves
from services.evaluation.prune import Pruning
from services.evaluation.study import study_of
from services.perception.decoding import Limits, decode
from services.perception.loading import load_encoder
from services.settings import EncoderSettings

MEMORY, K, DEFAULT_K = 1200, 100, 50


def png(digit: NDArray[np.float64]) -> bytes:
    """Dark ink on white paper, as in the demo."""
    out = io.BytesIO()
    PIL.Image.fromarray(255 - (digit * 15.9).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.timeout(600)
def test_the_rank_vote_keeps_its_accuracy_at_100_neighbours() -> None:
    digits = load_digits()
    encoder = load_encoder(EncoderSettings(precision="float32", batch_size=8))
    vectors = encoder.encode([decode(png(digit), Limits(10_000, 10_000), encoder.view) for digit in digits.images])
    memory, queries, labels = vectors[:MEMORY], vectors[MEMORY:], [[str(digit)] for digit in digits.target]
    names = [str(place) for place in range(len(labels))]
    asked, known = (names[MEMORY:], labels[MEMORY:]), (names[:MEMORY], labels[:MEMORY])
    study = study_of(encoder.name, asked, known, search(queries, memory, K, None), itself=False)
    around = search(memory, memory, K, np.arange(MEMORY))
    soft = Pruning.of(study, around.rows, above=None).softly()
    found = {
        (curve.prune, curve.vote): np.array(curve.accuracy)
        for prune, voters in ((Prune.NONE, study.voters), (Prune.SOFT, soft))
        for curve in curves(study, prune, voters, EvaluationOptions())
    }
    rank, plurality = found[Prune.NONE, Vote.RANK], found[Prune.NONE, Vote.PLURALITY]
    assert plurality[-1] == pytest.approx(0.824, abs=0.01)
    assert rank[-1] == pytest.approx(0.888, abs=0.01)
    assert rank[-1] > rank.max() - 0.01
    assert plurality[-1] < plurality.max() - 0.03
    pruned = found[Prune.SOFT, Vote.RANK]  # at some other k, such as 100, it answers one or two of 597 less
    assert pruned[DEFAULT_K - 1] >= rank[DEFAULT_K - 1]
    assert pruned.max() >= rank.max()
