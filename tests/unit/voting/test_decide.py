"""Promise 6: a decision is a pure function of its neighbours and can be recomputed from its own explanation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, Vote
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.image_reliability import reliability


def neighbours(*pairs: tuple[float, str]) -> list[Seen]:
    return [Seen(f"image-{rank}", similarity, label.split("+")) for rank, (similarity, label) in enumerate(pairs)]


FORMULAS: list[tuple[Vote, Callable[[int, float], float]]] = [
    (Vote.PLURALITY, lambda _rank, _similarity: 1.0),
    (Vote.DISTANCE, lambda _rank, similarity: math.exp(-(1 - similarity))),
    (Vote.SOFTMAX, lambda _rank, similarity: math.exp(similarity / 0.07)),
    (Vote.RANK, lambda rank, _similarity: 1 / (rank + 2)),
]


@pytest.mark.parametrize(("vote", "formula"), FORMULAS)
def test_weights_are_the_papers(vote: Vote, formula: Callable[[int, float], float]) -> None:
    seen = neighbours((0.9, "a"), (0.8, "b"), (0.5, "b"), (-0.2, "a"))
    decision = decide(seen, ClassifyOptions(vote=vote), "encoder")
    for neighbour, voter in zip(decision.neighbours, seen, strict=True):
        assert neighbour.weight == pytest.approx(formula(neighbour.rank, voter.similarity))


def test_rank_vote_by_hand() -> None:
    decision = decide(neighbours((0.9, "a"), (0.8, "b"), (0.7, "b")), ClassifyOptions(), "encoder")
    assert [share.label for share in decision.shares] == ["b", "a"]
    assert [share.score for share in decision.shares] == pytest.approx([1 / 3 + 1 / 4, 1 / 2])
    assert decision.label == "b"
    assert decision.margin == pytest.approx((7 / 12 - 1 / 2) / (13 / 12))
    assert decision.voters == 3


def test_a_tie_goes_to_the_class_that_reached_the_score_first() -> None:
    plurality = ClassifyOptions(vote=Vote.PLURALITY)
    assert decide(neighbours((0.9, "a"), (0.8, "b"), (0.7, "b"), (0.6, "a")), plurality, "encoder").label == "b"
    assert decide(neighbours((0.9, "a"), (0.8, "b")), plurality, "encoder").label == "a"


def test_a_tie_on_paper_is_a_tie_in_floats() -> None:
    # With alpha 6, ranks 4 and 9 together equal rank 0: 1/10 + 1/15 = 1/6; as floats their sum comes out larger.
    assert 1 / 10 + 1 / 15 > 1 / 6
    labels = ["x", "b", "c", "d", "y", "e", "f", "g", "h", "y"]
    decision = decide(neighbours(*((0.5, label) for label in labels)), ClassifyOptions(alpha=6), "encoder")
    assert decision.label == "x"
    assert decision.shares[1].label == "y"


def test_a_neighbour_with_several_labels_gives_its_weight_to_each() -> None:
    decision = decide(neighbours((0.9, "a+b"), (0.8, "b")), ClassifyOptions(), "encoder")
    assert {share.label: share.score for share in decision.shares} == {
        "a": pytest.approx(1 / 2),
        "b": pytest.approx(1 / 2 + 1 / 3),
    }
    assert sum(share.share for share in decision.shares) == pytest.approx(1)


def test_nobody_voted() -> None:
    decision = decide([], ClassifyOptions(), "encoder")
    assert decision.label is None
    assert decision.shares == []
    assert decision.neighbours == []


def test_shows_as_many_as_asked_but_counts_all() -> None:
    decision = decide(neighbours((0.9, "a"), (0.8, "b"), (0.7, "b")), ClassifyOptions(show=1), "encoder")
    assert len(decision.neighbours) == 1
    assert decision.voters == 3
    assert decision.label == "b"


@given(
    voters=st.lists(
        st.tuples(
            st.floats(-1, 1),
            st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
            st.integers(0, 9).map(lambda wrong: float(reliability(np.array(wrong)))),
        ),
        min_size=1,
    ),
    vote=st.sampled_from(list(Vote)),
)
def test_recomputed_from_its_own_explanation(voters: list[tuple[float, list[str], float]], vote: Vote) -> None:
    voters.sort(key=lambda voter: -voter[0])
    seen = [Seen(str(rank), *voter) for rank, voter in enumerate(voters)]
    options = ClassifyOptions(vote=vote)
    decision = decide(seen, options, "encoder")
    assert decide(decision.neighbours, options, decision.encoder) == decision
    formula, by_hand = dict(FORMULAS)[vote], dict[str, float]()
    for neighbour in decision.neighbours:
        assert neighbour.weight == pytest.approx(formula(neighbour.rank, neighbour.similarity) * neighbour.reliability)
        for label in neighbour.labels:
            by_hand[label] = by_hand.get(label, 0.0) + neighbour.weight
    assert {share.label: share.score for share in decision.shares} == pytest.approx(by_hand)
    assert by_hand[decision.label or ""] >= max(by_hand.values()) * (1 - 1e-9)
    assert sum(share.share for share in decision.shares) == pytest.approx(1)
