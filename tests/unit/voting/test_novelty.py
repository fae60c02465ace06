"""Novelty: a quantile among the memory's own images, and no label beyond the one that was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Novelty
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.novelty import novelty

numbers = st.floats(-1, 1, width=32)


@given(similarities=st.lists(numbers, min_size=1), distances=st.lists(numbers.map(lambda s: 1 - s), min_size=1))
def test_the_quantile_counts_the_images_that_are_nearer_to_theirs(
    similarities: list[float], distances: list[float]
) -> None:
    found = novelty(np.array(similarities), np.sort(distances))
    assert found.distance == pytest.approx(sum(1 - each for each in similarities) / len(similarities))
    nearer = sum(each < found.distance for each in distances)
    assert found.quantile == pytest.approx(nearer / len(distances))


@pytest.mark.parametrize(("quantile", "label"), [(0.949, "cat"), (0.95, "cat"), (0.951, None)])
def test_above_what_was_asked_there_is_no_label_and_the_votes_stay_visible(quantile: float, label: str | None) -> None:
    measured = Novelty(distance=0.4321, quantile=quantile)
    options = ClassifyOptions(unknown_above=0.95)
    decision = decide([Seen("one", 0.5679, ["cat"])], options, "encoder", measured)
    assert decision.label == label
    assert decision.novelty == measured
    assert (decision.shares[0].label, decision.voters, len(decision.neighbours)) == ("cat", 1, 1)
    assert decide(decision.neighbours, options, decision.encoder, decision.novelty) == decision
    if label is None:
        assert decision.reason == (
            "unknown: the mean distance to its neighbours is 0.4321, more than for 95.1% of the memory's own images;"
            " the limit is 0.95"
        )


def test_a_k_that_no_judgement_reaches_is_refused() -> None:
    for asked in ({"unknown_above": 0.95}, {"coverage": 0.9}):
        ClassifyOptions.model_validate({"k": 100, **asked})
        with pytest.raises(ValidationError, match="at most 100, not 101"):
            ClassifyOptions.model_validate({"k": 101, **asked})
