"""What people see of a decision."""

from pathlib import Path

import pytest

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import ClassShare, Decision, Novelty
from visual_memory.services.cli.decision_output import print_decision
from visual_memory.services.cli.terminal_output import stage_bars


def said(capsys: pytest.CaptureFixture[str], **fields: object) -> list[str]:
    shares = [ClassShare(label="cat", score=3, share=0.75), ClassShare(label="dog", score=1, share=0.25)]
    options = ClassifyOptions(coverage=0.9)
    given = {"label": "cat", "shares": shares, "voters": 4, "encoder": "encoder", **fields}
    print_decision(Path("a.jpg"), Decision.model_validate(given), options)
    return [line for line in " ".join(capsys.readouterr().out.split("\n")).split("  ") if line]


def test_novelty_and_the_prediction_set(capsys: pytest.CaptureFixture[str]) -> None:
    novelty = Novelty(distance=0.25, quantile=0.987)
    lines = " ".join(said(capsys, novelty=novelty, prediction_set=["cat", "dog"], set_share=0.2))
    assert "a.jpg: cat (cat 75%, dog 25%; 4 voted)" in lines
    assert "mean distance to its neighbours 0.2500: further than 98.7% of the memory's own images" in lines
    assert "if it is like the memory's images, 90.0% sure to be one of: cat, dog" in lines
    assert "all that got a vote" not in lines


def test_no_label_has_a_reason_and_the_votes_are_seen(capsys: pytest.CaptureFixture[str]) -> None:
    lines = " ".join(said(capsys, label=None, reason="unknown: it is far away", prediction_set=["cat"], set_share=0))
    assert "a.jpg: no label: unknown: it is far away (cat 75%, dog 25%; 4 voted)" in lines
    assert "all that got a vote" in lines


def test_nobody_voted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, label=None, reason="the memory is empty", shares=[], voters=0)
    assert lines == ["a.jpg: no label: the memory is empty "]


def test_a_work_without_stages_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with stage_bars(quiet=False):
        pass
    assert capsys.readouterr().err == ""
    with stage_bars(quiet=False) as tell:
        tell("counted", 3, 3)
    assert "counted" in capsys.readouterr().err
