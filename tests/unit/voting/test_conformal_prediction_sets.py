"""Prediction sets: the calibration against one image at a time, and the coverage on digits that were never seen."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, GroupBy, Prune, Vote
from visual_memory.schemas.judgement import CalibrationSample
from visual_memory.services.voting.brute_force_neighbours import nearest
from visual_memory.services.voting.calibration_scores import calibrate
from visual_memory.services.voting.conformal_prediction_sets import set_share
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups, into_groups
from visual_memory.services.voting.label_hierarchy import cut_labels

K = 30


labels = st.lists(st.sampled_from(["a", "b", "a/x", "a/y", "b/x/y"]), min_size=1, max_size=3, unique=True)
similarities = st.floats(-1, 1, width=32) | st.sampled_from([0.25, 0.5])
neighbour = st.tuples(similarities, labels, st.integers(0, 6))
samples = st.lists(st.tuples(labels, st.lists(neighbour, max_size=7)), max_size=6)
questions = st.builds(
    ClassifyOptions,
    k=st.integers(1, 8),
    vote=st.sampled_from(Vote),
    alpha=st.floats(0.1, 4),
    temperature=st.floats(0.05, 2),
    level=st.none() | st.integers(1, 3),
    prune=st.none() | st.just(Prune.NONE) | st.just(Prune.HARD),
    prune_above=st.integers(1, 6),
    group_by=st.sampled_from(GroupBy),
)


def sampled(images: list[tuple[list[str], list[tuple[float, list[str], int]]]]) -> CalibrationSample:
    ordered = [sorted(voters, key=lambda voter: -voter[0]) for _, voters in images]
    return CalibrationSample(
        labels=[own for own, _ in images],
        similarities=[[voter[0] for voter in voters] for voters in ordered],
        neighbour_labels=[[voter[1] for voter in voters] for voters in ordered],
        neighbour_wrong=[[voter[2] for voter in voters] for voters in ordered],
        neighbour_groups=[[content_of(voter[0]) for voter in voters] for voters in ordered],
    )


def content_of(similarity: float) -> int:
    """What copies have in common: here, how near they are."""
    return int(1000 * (similarity + 1))


def one_by_one(sample: CalibrationSample, options: ClassifyOptions) -> tuple[list[float], list[float]]:
    """Distances and misfits, from a decision on each image."""
    distances, misfits = [], []
    alone = options.group_by is GroupBy.NONE
    for own, *row in zip(
        sample.labels, sample.similarities, sample.neighbour_labels, sample.neighbour_wrong, strict=True
    ):
        voters = [
            Seen("one", similarity, theirs, content="" if alone else str(content_of(similarity)))
            for similarity, theirs, wrong in zip(*row, strict=True)
            if options.prune is not Prune.HARD or wrong < options.prune_above
        ]
        voters, _ = first_groups(voters, options.k)
        if voters:
            shares = {each.label: each.share for each in decide(voters, options, "encoder").shares}
            groups = into_groups(voters)
            distances.append(float(np.mean([np.mean([1 - voter.similarity for voter in group]) for group in groups])))
            misfits.append(1 - max(shares.get(label, 0.0) for label in cut_labels(own, options.level or 100)))
    return sorted(distances), sorted(misfits)


@settings(max_examples=200, deadline=None)
@given(images=samples, options=questions)
def test_the_calibration_is_a_decision_on_each_image(
    images: list[tuple[list[str], list[tuple[float, list[str], int]]]], options: ClassifyOptions
) -> None:
    sample = sampled(images)
    calibration = calibrate(sample, options)
    distances, misfits = one_by_one(sample, options)
    assert calibration.distances.tolist() == pytest.approx(distances)
    assert calibration.nonconformity.tolist() == pytest.approx(misfits, abs=1e-9)


def test_soft_pruning_weighs_who_voted_wrong_less() -> None:
    sample = sampled([(["a"], [(0.9, ["b"], 6), (0.8, ["a"], 0), (0.7, ["a"], 1)])])
    soft = ClassifyOptions(vote=Vote.PLURALITY, prune=Prune.SOFT)
    right, all_votes = 1 + 1.75 / 2, 1.75 / 7 + 1 + 1.75 / 2
    assert calibrate(sample, soft).nonconformity.tolist() == pytest.approx([1 - right / all_votes])


@given(misfits=st.lists(st.floats(0, 1), min_size=1, max_size=60), coverage=st.floats(0.5, 0.999))
def test_the_set_holds_what_fits_no_worse_than_the_quantile(misfits: list[float], coverage: float) -> None:
    least = set_share(np.sort(misfits), coverage)
    covered = sum(1 - misfit >= least - 1e-12 for misfit in misfits)
    assert covered >= min(len(misfits), coverage * (len(misfits) + 1) - 1e-6), "enough of the memory's own images"
    better = sum(1 - misfit > least + 1e-12 for misfit in misfits)
    assert least == 0 or better < coverage * (len(misfits) + 1), "a larger share would not be enough"


def test_a_rank_that_is_whole_on_paper_is_not_rounded_up() -> None:
    misfits = np.linspace(0, 1, 99)
    for percent in range(50, 100):
        assert set_share(misfits, percent / 100) == 1 - misfits[percent - 1]


def test_too_few_images_to_tell_give_every_label_that_got_a_vote() -> None:
    assert set_share(np.array([0.1, 0.2, 0.3]), 0.9) == 0


@pytest.mark.parametrize(
    ("least", "named"), [(0.9, ["a"]), (0.6, ["a"]), (0.3, ["a", "b"]), (0.1, ["a", "b", "c"]), (0.0, ["a", "b", "c"])]
)
def test_the_winner_is_always_named_and_the_likeliest_come_first(least: float, named: list[str]) -> None:
    seen = [Seen("one", 0.9, [label]) for label in "aaaaaabbbc"]
    options = ClassifyOptions(vote=Vote.PLURALITY, coverage=0.9)
    decision = decide(seen, options, "encoder", None, least)
    assert (decision.prediction_set, decision.set_share) == (named, least)
    assert decide(decision.neighbours, options, decision.encoder, None, decision.set_share) == decision


def test_the_set_is_of_the_level_that_was_asked_for_whatever_is_answered() -> None:
    seen = [Seen("one", 0.9, [label]) for label in ("pet/cat", "pet/cat", "pet/dog", "car/van")]
    options = ClassifyOptions(vote=Vote.PLURALITY, back_off=0.7, coverage=0.9)
    decision = decide(seen, options, "encoder", None, 0.25)
    assert (decision.label, decision.prediction_set) == ("pet", ["pet/cat", "pet/dog", "car/van"])


# Real digits: a memory that judges itself, and digits that were never seen


Encode = Callable[[NDArray[np.float64]], NDArray[np.float64]]
ENCODERS: dict[str, Encode] = {
    "whole": lambda pixels: pixels.reshape(-1, 64),
    "rows": lambda pixels: pixels.mean(axis=2),  # a worse encoder: one digit in seven is mistaken
    "half": lambda pixels: pixels.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))[:, :, :2].reshape(-1, 8),  # three in ten
}
MEMORY, ASKED, TRIALS = 800, 400, 4


@cache
def digits() -> tuple[NDArray[np.float64], list[str]]:
    pixels, numbers = load_digits(return_X_y=True)
    return pixels.reshape(-1, 8, 8), [str(number) for number in numbers]


@cache
def trial(encoder: str, seed: int) -> tuple[CalibrationSample, list[tuple[str, list[Seen]]]]:
    """What one memory knows of itself, and unseen digits with their neighbours in it."""
    pixels, names = digits()
    rows = ENCODERS[encoder](pixels) + 0.1
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(unit))
    memory, asked = order[:MEMORY], order[MEMORY : MEMORY + ASKED]
    known = [[names[number]] for number in memory]
    similarities, found = nearest(unit[memory], unit[memory], K, leave_out=np.arange(MEMORY))
    sample = CalibrationSample(
        labels=known,
        similarities=similarities.tolist(),
        neighbour_labels=[[known[place] for place in row] for row in found.tolist()],
        neighbour_wrong=np.zeros_like(found).tolist(),
    )
    similarities, found = nearest(unit[asked], unit[memory], K)
    voters = [
        [Seen("one", similarity, known[place]) for similarity, place in zip(near, row, strict=True)]
        for near, row in zip(similarities.tolist(), found.tolist(), strict=True)
    ]
    return sample, [(names[number], each) for number, each in zip(asked, voters, strict=True)]


def measured(encoder: str, coverage: float, seed: int) -> tuple[float, float]:
    """How often the sets of a trial held the right label, and how often the winner was right."""
    sample, questions = trial(encoder, seed)
    options = ClassifyOptions(k=K, coverage=coverage, show=0)
    least = set_share(calibrate(sample, options).nonconformity, coverage)
    held = right = 0
    for name, voters in questions:
        decision = decide(voters, options, "encoder", None, least)
        held += name in (decision.prediction_set or [])
        right += name == decision.label
    return held / len(questions), right / len(questions)


@pytest.mark.parametrize(("encoder", "coverage"), [("rows", 0.9), ("rows", 0.95), ("half", 0.8), ("half", 0.9)])
def test_sets_cover_as_many_unseen_digits_as_was_asked(encoder: str, coverage: float) -> None:
    held, right = np.mean([measured(encoder, coverage, seed) for seed in range(TRIALS)], axis=0)
    assert abs(held - coverage) < 0.02
    assert right < coverage - 0.02, "the winner alone would not do"


def test_where_the_winner_is_right_more_often_than_asked_the_set_is_the_winner() -> None:
    held, right = measured("whole", 0.9, 0)
    assert held == right > 0.95
