"""Two encoders asked the same: how often each is right, whether that is chance, and whose answers change."""

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_Part):
    """A figure of the pictures that were asked, with the 95 % interval of the same among all that are like them."""

    value: float
    low: float
    high: float


class EncoderFigures(_Part):
    """How well one encoder's vectors answer, by the vote of the comparison.

    Attributes:
        encoder: its name.
        accuracy: the part of the answers that is right, 0 to 1; Wilson's interval.
        ece: expected calibration error of the winner's share as its confidence, 0 to 1, on one half of the pictures;
            null where there is only one.
        calibrated_ece: the same, on the same half, with the temperature that was fitted on the other half.
        temperature: that temperature.
        novelty_auroc: how well the mean distance to the voters tells pictures of a class that the memory does not hold
            from the others, 0 to 1, where 0.5 is chance: the mean over fifths of the classes, each left out of the
            memory once. Null where there is one class only.
    """

    encoder: str
    accuracy: Estimate
    ece: float | None
    calibrated_ece: float | None
    temperature: float | None
    novelty_auroc: float | None


class ChangedAnswer(_Part):
    """A picture that the two encoders answer differently.

    Attributes:
        image_id: its id, or its file where a folder was asked about.
        labels: its own.
        a: the answer by the first encoder.
        b: the answer by the second.
    """

    image_id: str
    labels: list[str]
    a: str
    b: str


class Comparison(_Part):
    """The same pictures asked by two encoders.

    Attributes:
        queries: how many pictures were asked about.
        images: how many images voted, or, of the memory itself, those that may vote on each other.
        k: how many neighbours vote, copies counted once.
        difference: accuracy of `b` less that of `a`, -1 to 1; the interval is that of pairs (Bonett and Price 2012).
        gained: `a` is wrong and `b` is right.
        lost: `a` is right and `b` is wrong.
        swapped: both are wrong, with different answers.
    """

    queries: int
    images: int
    k: int
    a: EncoderFigures
    b: EncoderFigures
    difference: Estimate
    gained: list[ChangedAnswer]
    lost: list[ChangedAnswer]
    swapped: list[ChangedAnswer]


class EncoderComparison(_Part):
    """Two encoders on one tenant's memory.

    Attributes:
        tenant: whose memory.
        a: name of the first encoder.
        b: name of the second.
        voting: how many images vote.
        drawn: of how many of them, drawn at random by the seed, everything is; null: of all.
        lacking: how many of these lack a vector, by the encoder; they are left out of both.
        seed: of all draws.
        itself: each image of the memory asked of the others.
        folder: labelled pictures asked of the memory; null where none were given.
        known: how many of those pictures are remembered themselves, and so find themselves, which flatters both.
    """

    tenant: str
    a: str
    b: str
    voting: int
    drawn: int | None
    lacking: dict[str, int]
    seed: int
    itself: Comparison
    folder: Comparison | None = None
    known: int = 0
