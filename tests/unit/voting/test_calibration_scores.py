"""The cache of calibrations: one for each judgement and what the vote depends on, and few of them."""

import gc
import weakref
from uuid import uuid4

import pytest

from visual_memory.schemas.classify_options import ClassifyOptions, Vote
from visual_memory.schemas.errors import NotJudged
from visual_memory.schemas.judgement import CalibrationSample, Judgement
from visual_memory.schemas.moments import now
from visual_memory.services.voting.calibration_scores import CACHED, Calibration, calibrate, calibration_of

SAMPLE = CalibrationSample(
    labels=[["a"], ["a"]],
    similarities=[[0.9], [0.9]],
    neighbour_labels=[[["a"]], [["a"]]],
    neighbour_wrong=[[0], [0]],
)


def judgement(name: str, sample: CalibrationSample = SAMPLE) -> Judgement:
    return Judgement(
        id=name,
        made_at=now(),
        encoder="encoder",
        k=10,
        images=2,
        votes={},
        classes=[],
        suspects=[],
        sample=sample,
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[ClassifyOptions]:
    """The options of every calibration that was really made."""
    made: list[ClassifyOptions] = []

    def note(sample: CalibrationSample, options: ClassifyOptions) -> Calibration:
        made.append(options)
        return calibrate(sample, options)

    monkeypatch.setattr("visual_memory.services.voting.calibration_scores.calibrate", note)
    return made


def test_what_the_vote_depends_on_is_counted_anew_and_all_else_is_not(counted: list[ClassifyOptions]) -> None:
    plain, one = ClassifyOptions(coverage=0.9), judgement(str(uuid4()))
    same: list[dict[str, object]] = [
        {"coverage": 0.5},
        {"unknown_above": 0.03},
        {"show": 1},
        {"effort": "exact"},
        {"store": True},
    ]
    other: list[dict[str, object]] = [
        {"vote": Vote.SOFTMAX},
        {"k": 3},
        {"alpha": 1},
        {"temperature": 1},
        {"group_by": "none"},
        {"level": 1},
        {"prune": "hard"},
    ]
    for update in [*same, *other, *same, *other]:
        calibration_of(one, ClassifyOptions.model_validate(plain.model_dump() | update))
    assert len(counted) == 1 + len(other)
    calibration_of(judgement(str(uuid4())), plain)
    assert len(counted) == 2 + len(other)


def test_those_that_nobody_asks_for_go(counted: list[ClassifyOptions]) -> None:
    options, first = ClassifyOptions(coverage=0.9), judgement(str(uuid4()))
    others = [judgement(str(uuid4())) for _ in range(CACHED + 5)]
    for each in others:
        calibration_of(each, options)
        calibration_of(first, options)
    assert len(counted) == 1 + len(others), "what is asked for again and again stays"
    calibration_of(others[0], options)
    assert len(counted) == 2 + len(others)


def test_what_was_counted_does_not_keep_the_judgement_alive() -> None:
    one = judgement(str(uuid4()), SAMPLE.model_copy())
    sample = weakref.ref(one.sample)
    calibration_of(one, ClassifyOptions(coverage=0.9))
    del one
    gc.collect()
    assert sample() is None


def test_without_a_judgement_that_compares_anything_nothing_is_answered() -> None:
    empty = CalibrationSample(labels=[["a"]], similarities=[[]], neighbour_labels=[[]], neighbour_wrong=[[]])
    with pytest.raises(NotJudged, match="visual-memory judge"):
        calibration_of(None, ClassifyOptions(coverage=0.9))
    with pytest.raises(NotJudged, match="add images"):
        calibration_of(judgement(str(uuid4()), empty), ClassifyOptions(coverage=0.9))
