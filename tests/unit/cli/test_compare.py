"""What people see of two encoders that were compared."""

import pytest

from visual_memory.schemas.encoder_comparison import (
    ChangedAnswer,
    Comparison,
    EncoderComparison,
    EncoderFigures,
    Estimate,
)
from visual_memory.services.cli.commands.encoder_compare import _print_comparison, verdict


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.021, 0.004, 0.039, "B is right for 2.1 points more [0.4, 3.9]"),
        (-0.021, -0.039, -0.004, "A is right for 2.1 points more [0.4, 3.9]"),
        (0.01, -0.002, 0.02, "no significant difference (B - A: +1.0 points [-0.2, 2.0])"),
        (0.0, -0.002, 0.002, "no significant difference (B - A: +0.0 points [-0.2, 0.2])"),
    ],
)
def test_the_verdict(value: float, low: float, high: float, said: str) -> None:
    assert verdict(Estimate(value=value, low=low, high=high)) == said


def figures(encoder: str, accuracy: float) -> EncoderFigures:
    return EncoderFigures(
        encoder=encoder,
        accuracy=Estimate(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.01),
        ece=0.1234,
        calibrated_ece=0.0321,
        temperature=0.8,
        novelty_auroc=None,
    )


def test_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    gained = [ChangedAnswer(image_id=f"image-{n}", labels=["cat", "pet"], a="dog", b="cat") for n in range(4)]
    one = Comparison(
        queries=300,
        images=301,
        k=50,
        a=figures("old", 0.9),
        b=figures("new", 0.95),
        difference=Estimate(value=0.05, low=0.03, high=0.07),
        gained=gained,
        lost=[ChangedAnswer(image_id="image-9", labels=["dog"], a="dog", b="cat")],
        swapped=[],
    )
    lacking = {"old": 0, "new": 12}
    found = EncoderComparison(
        tenant="t", a="old", b="new", voting=900, drawn=313, lacking=lacking, seed=7, itself=one, folder=one, known=2
    )
    _print_comparison(found, 3)
    said = capsys.readouterr().out
    assert "A: old\nB: new\n" in said
    assert "313 of the 900 images that vote, drawn at random (seed 7)" in said
    assert "12 images have no vector of new" in said
    assert "no vector of old" not in said
    assert "each image classified by the others: B is right for 5.0 points more [3.0, 7.0]." in said
    assert "The pictures of the folder: B is right" in said
    assert "90.0% [88.0, 91.0]" in said
    assert "0.123" in said
    assert "0.032" in said
    assert "4 wrong by A, right by B" in said
    assert "  image-2 (cat, pet): dog -> cat" in said
    assert "image-3" not in said
    assert "... and 1 more; --json has all" in said
    assert "  image-9 (dog): dog -> cat" in said
    assert "2 of the pictures are in the memory" in said
