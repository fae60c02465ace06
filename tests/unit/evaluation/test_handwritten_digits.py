"""The paper on handwritten digits: the rank vote keeps what plurality loses, and soft pruning does no harm."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from visual_memory.schemas.classify_options import Prune, Vote
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.services.evaluation.measures.accuracy_after_pruning import Pruning
from visual_memory.services.evaluation.measures.accuracy_metrics import curves
from visual_memory.services.evaluation.neighbour_matrix import build_neighbour_matrix
from visual_memory.services.evaluation.search_with_progress import exact_search

MEMORY, K, DEFAULT_K = 1200, 100, 50


def test_the_rank_vote_keeps_its_accuracy_at_100_neighbours() -> None:
    digits = load_digits()
    vectors = (digits.data / np.linalg.norm(digits.data, axis=1, keepdims=True)).astype(np.float32)
    memory, queries, labels = vectors[:MEMORY], vectors[MEMORY:], [[str(digit)] for digit in digits.target]
    names = [str(place) for place in range(len(labels))]
    asked, known = (names[MEMORY:], labels[MEMORY:]), (names[:MEMORY], labels[:MEMORY])
    study = build_neighbour_matrix("pixels", asked, known, exact_search(queries, memory, K, None), itself=False)
    around = exact_search(memory, memory, K, np.arange(MEMORY))
    soft = Pruning.of(study, around.rows, above=None).soft()
    found = {
        (curve.prune, curve.vote): np.array(curve.accuracy)
        for prune, voters in ((Prune.NONE, study.neighbours), (Prune.SOFT, soft))
        for curve in curves(study, prune, voters, EvaluationOptions())
    }
    rank, plurality = found[Prune.NONE, Vote.RANK], found[Prune.NONE, Vote.PLURALITY]
    assert plurality[-1] == pytest.approx(0.891, abs=0.01)
    assert rank[-1] == pytest.approx(0.963, abs=0.01)
    assert rank[-1] > rank.max() - 0.01
    assert plurality[-1] < plurality.max() - 0.03
    pruned = found[Prune.SOFT, Vote.RANK]
    assert pruned[DEFAULT_K - 1] >= rank[DEFAULT_K - 1]
    assert pruned.max() >= rank.max()
