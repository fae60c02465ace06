"""A memory judged by itself: votes, reports and suspects against counting by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.services.curation.judgement.leave_one_out_votes import (
    ImagesWithNeighbours,
    LeaveOneOutVote,
    class_reports,
    leave_one_out_votes,
    voting_neighbours,
)
from visual_memory.services.curation.judgement.score_suspects import find_suspects
from visual_memory.services.memory.nearest_neighbours import Hit
from visual_memory.services.voting import image_reliability
from visual_memory.services.voting.brute_force_neighbours import MISSING, nearest
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups
from visual_memory.services.voting.image_reliability import count_votes, reliability, votes_are_right

LABELS = ("cat", "dog", "animal/owl", "bat")
DIRECTIONS = np.random.default_rng(5).integers(0, 2, (12, 16)).astype(np.float32) * 0.5 - 0.25
"""Unit vectors whose products are exact however they are summed; many are equally near."""

images = st.lists(
    st.tuples(st.integers(0, 11), st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True)), max_size=40
)


def memories(images: list[tuple[int, list[str]]], k: int = 10) -> ImagesWithNeighbours:
    vectors = DIRECTIONS[[direction for direction, _ in images]].reshape(len(images), 16)
    similarities, rows = nearest(vectors, vectors, k, leave_out=np.arange(len(images)))
    ids = [f"image-{row:03}" for row in range(len(images))]
    return ImagesWithNeighbours(ids, [own for _, own in images], similarities, rows, np.arange(len(ids)))


def neighbours_by_hand(images: list[tuple[int, list[str]]], row: int, k: int) -> list[int]:
    own = DIRECTIONS[images[row][0]].astype(float)
    others = [other for other in range(len(images)) if other != row]
    return sorted(others, key=lambda other: (-float(DIRECTIONS[images[other][0]].astype(float) @ own), other))[:k]


@given(images=images, k=st.integers(1, 12), at_once=st.integers(1, 50))
def test_votes_are_those_counted_by_hand(images: list[tuple[int, list[str]]], k: int, at_once: int) -> None:
    by_hand = [[0, 0] for _ in images]
    for row, (_, own) in enumerate(images):
        for other in neighbours_by_hand(images, row, k):
            by_hand[other][bool(set(own) & set(images[other][1]))] += 1
    judged = memories(images, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_reliability, "AT_ONCE", at_once)
        votes = count_votes(judged.rows, votes_are_right(judged.labels, judged.rows))
    assert votes.tolist() == by_hand


def by_decide(judged: ImagesWithNeighbours, row: int) -> LeaveOneOutVote:
    """What a classification by the same neighbours says, to the last bit."""
    voters = [
        Hit(judged.image_ids[other], tuple(judged.labels[other]), float(similarity), str(judged.contents[other]))
        for other, similarity in zip(judged.rows[row], judged.similarities[row], strict=True)
        if other != MISSING
    ]
    if not voters:
        return LeaveOneOutVote()
    shares = decide(voters, ClassifyOptions(show=0), "").shares
    own = max((each.share for each in shares if each.label in judged.labels[row]), default=0.0)
    agreeing = sum(shares[0].label in voter.labels for voter in voters)
    return LeaveOneOutVote(shares[0].label, shares[0].share, own, agreeing, len(voters))


@given(images=images, kinds=st.integers(1, 12), k=st.integers(1, 12))
def test_copies_of_one_content_vote_as_in_a_classification(
    images: list[tuple[int, list[str]]], kinds: int, k: int
) -> None:
    nearest = memories(images, 40)
    contents = np.array([direction % kinds for direction, _ in images], np.int64)
    similarities, rows = voting_neighbours(nearest.similarities, nearest.rows, contents, k)
    judged = replace(nearest, similarities=similarities, rows=rows, contents=contents)
    for row, voters in enumerate(rows):
        everybody = [
            Hit(str(other), (), float(similarity), str(contents[other]))
            for other, similarity in zip(nearest.rows[row], nearest.similarities[row], strict=True)
            if other != MISSING
        ]
        expected, _ = first_groups(everybody, k)
        assert [str(voter) for voter in voters if voter != MISSING] == [hit.image_id for hit in expected]
    assert leave_one_out_votes(judged) == [by_decide(judged, row) for row in range(len(images))]


@given(images=images)
def test_opinions_and_reports_are_those_counted_by_hand(images: list[tuple[int, list[str]]]) -> None:
    judged = memories(images)
    found = leave_one_out_votes(judged)
    assert found == [by_decide(judged, row) for row in range(len(images))]
    for row, said in enumerate(found):
        scores: dict[str, float] = {}
        for rank, other in enumerate(neighbours_by_hand(images, row, 10)):
            for label in images[other][1]:
                scores[label] = scores.get(label, 0) + 1 / (rank + 2)
        total = sum(scores.values())
        if scores:
            assert scores[said.label] == pytest.approx(max(scores.values()))
            assert said.share == pytest.approx(max(scores.values()) / total)
            assert said.own == pytest.approx(max(scores.get(label, 0) for label in images[row][1]) / total)
    for each in class_reports(judged.labels, found):
        said_of = [said.label for said, (_, own) in zip(found, images, strict=True) if each.label in own]
        right = [said for said, (_, own) in zip(found, images, strict=True) if each.label in own and said.label in own]
        assert each.images == len(said_of)
        assert each.accuracy == pytest.approx(len(right) / len(said_of))
        for label, number in each.confused_with.items():
            assert said_of.count(label) >= number > 0


def test_reliability_is_the_papers() -> None:
    assert reliability(np.array([0, 1, 2, 6])).tolist() == pytest.approx([1, 1.75 / 2, 1.75 / 3, 1.75 / 7])


def around(angles: list[float], labels: list[str], k: int = 10) -> list[Suspect]:
    """The suspects among images on a circle."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    similarities, rows = nearest(vectors, vectors, k, leave_out=np.arange(len(angles)))
    ids = [f"image-{row:03}" for row in range(len(angles))]
    judged = ImagesWithNeighbours(ids, [[label] for label in labels], similarities, rows, np.arange(len(ids)))
    return find_suspects(judged, leave_one_out_votes(judged))


def of(kind: Suspicion, found: list[Suspect]) -> list[Suspect]:
    return [each for each in found if each.suspicion is kind]


def test_a_wrong_label_among_its_like_is_suspected_and_the_right_one_suggested() -> None:
    angles = [0.3 * step for step in range(5)] + [3 + 0.3 * step for step in range(5)]
    [first, *_] = of(Suspicion.LABEL, around(angles, ["a"] * 2 + ["b"] + ["a"] * 2 + ["b"] * 5, k=4))
    assert (first.image_id, first.labels, first.suggestion, first.score) == ("image-002", ["b"], "a", 1)
    assert first.reason == "4 of its 4 neighbours are a, with 100% of the vote; b has 0%"
    assert of(Suspicion.LABEL, around(angles, ["a"] * 5 + ["b"] * 5, k=4)) == []


def test_of_near_duplicates_all_but_one_are_named_and_other_labels_are_told() -> None:
    found = of(Suspicion.DUPLICATE, around([0, 1, 1.001, 2, 1.001], ["a", "a", "a", "b", "b"]))
    assert {(each.image_id, each.suggestion) for each in found} == {
        ("image-002", "image-001"),
        ("image-004", "image-002"),
    }
    assert [("same labels" in each.reason) for each in found] == [False, True], "the nearest first"
    assert "is labelled b, not a" in found[0].reason


def test_what_is_far_from_everything_is_an_outlier() -> None:
    [found] = of(Suspicion.OUTLIER, around([0.01 * step for step in range(30)] + [2], ["a"] * 31))
    assert (found.image_id, found.score, found.suggestion) == ("image-030", 1, "a")
    assert "100.0% of the images are nearer to theirs" in found.reason


@pytest.mark.parametrize("size", [0, 1])
def test_a_memory_without_neighbours_has_no_opinion(size: int) -> None:
    judged = memories([(0, ["cat"])] * size)
    assert (judged.rows == MISSING).all()
    found = leave_one_out_votes(judged)
    assert found == [LeaveOneOutVote()] * size
    assert find_suspects(judged, found) == []
    assert [(each.accuracy, each.confused_with) for each in class_reports(judged.labels, found)] == [(0, {})] * size
