"""Labels as paths: the vote at a level, and backing off to what enough of it agrees on, against counting by hand."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, Vote
from visual_memory.schemas.decision import Decision
from visual_memory.services.voting.decide import decide

DEEPEST = 4


paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=DEEPEST).map("/".join)
ballots = st.lists(st.lists(paths, min_size=1, max_size=3, unique=True), min_size=1, max_size=12)


def ask(labels: Sequence[Sequence[str]], vote: Vote = Vote.PLURALITY, **options: object) -> Decision:
    seen = [Seen(f"image-{rank}", 1 - rank / 100, list(each)) for rank, each in enumerate(labels)]
    return decide(seen, ClassifyOptions.model_validate({"vote": vote, **options}), "encoder")


def by_hand(labels: Sequence[Sequence[str]], level: int) -> tuple[str, dict[str, Fraction]]:
    """The plurality's winner at a level, the first to have the most, and every share."""
    scores: Counter[str] = Counter()
    reached: dict[tuple[str, int], int] = {}
    turn = 0
    for each in labels:
        seen: list[str] = []
        for label in each:
            part = "/".join(label.split("/")[:level])
            if part not in seen:
                seen.append(part)
                scores[part] += 1
                turn += 1
                reached[part, scores[part]] = turn
    most = max(scores.values())
    winner = min((label for label in scores if scores[label] == most), key=lambda label: reached[label, most])
    return winner, {label: Fraction(score, scores.total()) for label, score in scores.items()}


@given(labels=ballots, level=st.integers(1, DEEPEST + 1))
def test_a_vote_at_a_level_is_that_of_labels_cut_by_hand(labels: list[list[str]], level: int) -> None:
    decision = ask(labels, level=level)
    winner, shares = by_hand(labels, level)
    assert decision.label == winner
    assert {each.label: each.share for each in decision.shares} == pytest.approx(
        {label: float(share) for label, share in shares.items()}
    )
    assert [neighbour.labels for neighbour in decision.neighbours] == labels, "they are shown whole"


@given(
    labels=ballots,
    level=st.none() | st.integers(1, DEEPEST),
    threshold=st.fractions(Fraction(1, 20), 1, max_denominator=20),
)
def test_backing_off_finds_the_deepest_level_whose_winner_has_enough(
    labels: list[list[str]], level: int | None, threshold: Fraction
) -> None:
    decision = ask(labels, level=level, back_off=float(threshold))
    for each in range(level or DEEPEST, 0, -1):
        winner, shares = by_hand(labels, each)
        if shares[winner] >= threshold:
            assert (decision.label, decision.reason) == (winner, None)
            assert decision.shares == ask(labels, level=each).shares
            assert decision.margin == ask(labels, level=each).margin
            break
    else:
        assert decision.label is None
        assert decision.reason is not None
        assert by_hand(labels, 1)[0] in decision.reason
        assert decision.shares == ask(labels, level=1).shares


@given(labels=ballots, level=st.integers(2, DEEPEST))
def test_going_up_never_lowers_a_share(labels: list[list[str]], level: int) -> None:
    _, deep = by_hand(labels, level)
    _, above = by_hand(labels, level - 1)
    for label, share in deep.items():
        assert above["/".join(label.split("/")[: level - 1])] >= share


@given(
    labels=ballots,
    vote=st.sampled_from(Vote),
    level=st.none() | st.integers(1, DEEPEST),
    threshold=st.none() | st.floats(0.05, 1),
)
def test_recomputed_from_its_own_explanation(
    labels: list[list[str]], vote: Vote, level: int | None, threshold: float | None
) -> None:
    decision = ask(labels, vote, level=level, back_off=threshold)
    options = ClassifyOptions(vote=vote, level=level, back_off=threshold)
    assert decide(decision.neighbours, options, decision.encoder) == decision
    assert sum(share.share for share in decision.shares) == pytest.approx(1)


def test_what_many_kinds_share_beats_one_kind_alone() -> None:
    decision = ask([["car/van"], ["car/van"], ["pet/cat"], ["pet/dog"], ["pet/cow"]], back_off=0.5)
    assert (decision.label, decision.shares[0].share) == ("pet", 0.6)


def test_labels_of_one_neighbour_that_become_equal_count_once() -> None:
    decision = ask([["pet/cat", "pet/dog"], ["car"]], level=1)
    assert [(share.label, share.share) for share in decision.shares] == [("pet", 0.5), ("car", 0.5)]


def test_nothing_passes() -> None:
    decision = ask([["pet/cat"], ["car/van"]], back_off=0.75)
    assert decision.label is None
    assert decision.reason == (
        "no label has 75.0% of the vote, not even at the top of the paths, where pet has the most, 50.0%"
    )
    assert (decision.voters, len(decision.neighbours)) == (2, 2)
