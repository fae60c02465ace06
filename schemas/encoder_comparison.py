"""Comparison of two encoders on the same queries: accuracy, confidence intervals, and changed answers."""

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_Part):
    """A figure of the queries, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


class EncoderFigures(_Part):
    """The figures of one encoder.

    Attributes:
        encoder: its name.
        accuracy: the fraction of right answers, 0 to 1; Wilson's interval.
        ece: expected calibration error of the winner's share as its confidence, 0 to 1, on one half of the queries;
            null where there is only one.
        calibrated_ece: the same, on the same half, with the temperature that was fitted on the other half.
        temperature: that temperature.
        novelty_auroc: how well the mean distance to the voters separates queries of classes that the memory does not
            have from the others, 0 to 1, where 0.5 is chance: the mean over fifths of the classes, each left out of the
            memory once. Null where there is only one class.
    """

    encoder: str
    accuracy: Estimate
    ece: float | None
    calibrated_ece: float | None
    temperature: float | None
    novelty_auroc: float | None


class ChangedAnswer(_Part):
    """A query that the two encoders answer differently.

    Attributes:
        image_id: its id, or its file where a folder was evaluated.
        labels: its own.
        a: the answer by the first encoder.
        b: the answer by the second.
    """

    image_id: str
    labels: list[str]
    a: str
    b: str


class Comparison(_Part):
    """The same queries answered by two encoders.

    Attributes:
        queries: the number of queries.
        images: the number of images that vote.
        k: the number of neighbours that vote, with copies counted once.
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
        voting: the number of images that vote.
        drawn: the size of the random sample of them that was used; null: all.
        lacking: the number of these without a vector, by encoder; they are left out of both.
        seed: of all random draws.
        itself: the memory evaluated on itself, leaving one out.
        folder: labelled pictures of a folder as queries; null where none were given.
        known: the number of these pictures that are remembered themselves, and so find themselves, which raises both
            accuracies.
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
