"""All answers at every k at once, against the plain walk over the neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, Vote
from visual_memory.services.voting.batch_votes import (
    Integers,
    Weights,
    class_scores,
    collect_ballots,
    in_labels,
    winners_by_k,
)
from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.decide import TIE, decide
from visual_memory.services.voting.vote_weights import vote_weights

LABELS = 4
VOTERS = st.lists(
    st.tuples(
        st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.9]),  # few values, so that many neighbours are equally near
        st.lists(st.integers(0, LABELS), min_size=1, max_size=3, unique=True),
    ),
    max_size=12,
).map(lambda voters: sorted(voters, key=lambda voter: -voter[0]))


def matrices(queries: list[list[tuple[float, list[int]]]]) -> tuple[Weights, Integers]:
    """Similarities [n, k] and labels [n, k, l]."""
    k = max(map(len, queries))
    similarities, classes = np.full((len(queries), k), -1.0), np.full((len(queries), k, 3), MISSING)
    for row, voters in enumerate(queries):
        for rank, (similarity, labels) in enumerate(voters):
            similarities[row, rank] = similarity
            classes[row, rank, : len(labels)] = labels
    return similarities, classes


@given(queries=st.lists(VOTERS, min_size=1, max_size=5).filter(any), vote=st.sampled_from(list(Vote)), alpha=st.just(6))
def test_every_answer_and_share_is_that_of_decide(
    queries: list[list[tuple[float, list[int]]]], vote: Vote, alpha: int
) -> None:
    similarities, classes = matrices(queries)
    options = ClassifyOptions(vote=vote, alpha=alpha)
    cast, weights = collect_ballots(classes), vote_weights(similarities, options)
    won = winners_by_k(cast, weights)
    for row, voters in enumerate(queries):
        seen = [Seen("", similarity, [str(label) for label in labels]) for similarity, labels in voters]
        for k in range(1, similarities.shape[1] + 1):
            label = decide(seen[:k], options, "encoder").label
            assert won[row, k - 1] == (MISSING if label is None else int(label))
        expected = sorted(share.score for share in decide(seen, options, "encoder").shares)
        found = class_scores(cast, weights)[row]
        assert sorted(found[found > 0]) == pytest.approx(expected)


def plainly(classes: Integers, weights: Weights) -> int:
    """The winner among some neighbours, with weights of any kind."""
    reached: list[tuple[int, float]] = []
    total = dict.fromkeys(range(LABELS + 1), 0.0)
    for labels, weight in zip(classes.tolist(), weights.tolist(), strict=True):
        for label in labels:
            if label != MISSING:
                total[label] += weight
                reached.append((label, total[label]))
    enough = max(total.values()) * (1 - TIE)
    return next((label for label, score in reached if score >= enough), MISSING)


@given(
    queries=st.lists(VOTERS, min_size=1, max_size=5).filter(any),
    wrong=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
def test_votes_that_are_multiplied_and_equal_on_paper_are_ties(
    queries: list[list[tuple[float, list[int]]]], wrong: list[int]
) -> None:
    _, classes = matrices(queries)
    weights = np.broadcast_to(1.75 / (1 + np.array(wrong[: classes.shape[1]])), classes.shape[:2])
    won = winners_by_k(collect_ballots(classes), weights)
    for row in range(len(queries)):
        for k in range(1, classes.shape[1] + 1):
            assert won[row, k - 1] == plainly(classes[row, :k], weights[row, :k])


def test_a_tie_on_paper_is_a_tie_in_floats() -> None:
    assert 1 / 10 + 1 / 15 > 1 / 6  # ranks 4 and 9 against rank 0, with alpha 6
    classes = np.array([[[0], [1], [2], [3], [4], [5], [6], [7], [8], [4]]])
    weights = vote_weights(np.full((1, 10), 0.5), ClassifyOptions(alpha=6))
    assert winners_by_k(collect_ballots(classes), weights)[0].tolist() == [0] * 10


def test_among_knows_several_labels_and_none() -> None:
    labels = np.array([[1, 2], [3, MISSING]])
    assert in_labels(np.array([[1, 2, 3, MISSING], [1, 2, 3, MISSING]]), labels).tolist() == [
        [True, True, False, False],
        [False, False, True, False],
    ]
