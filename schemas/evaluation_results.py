"""The results of an evaluation: labelled queries classified by a memory, or the memory by itself, leaving one out."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, SkipValidation, with_config
from typing_extensions import TypedDict

from visual_memory.schemas.classify_options import Prune, Vote, VoteOptions
from visual_memory.schemas.judgement import ClassReport

MAX_NEIGHBOURS = 100


class EvaluationOptions(VoteOptions):
    """The options of an evaluation; `vote` and `k` are those of the detailed results."""

    k: Annotated[int, Field(ge=1, le=MAX_NEIGHBOURS)] = Field(
        default=50,
        description="the number of neighbours that vote, for confusions, calibration and novelty, 1 to 100",
        examples=[50],
    )
    k_max: Annotated[int, Field(ge=1, le=MAX_NEIGHBOURS)] = Field(
        default=MAX_NEIGHBOURS, description="the largest k of the curves, 1 to 100", examples=[100]
    )
    prune_above: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description=(
            "the least number of wrong votes, over 100 neighbours, for which hard pruning excludes an image; "
            "by default the paper's 128, or three times the mean where that is more, as with few images per "
            "class"
        ),
        examples=[16],
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="of the random draws: halves, subsets of the memory, folds", examples=[0]
    )


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Curve(_Part):
    """Accuracy of one vote by the number of neighbours.

    Attributes:
        accuracy: at k = 1, 2, ..., each 0 to 1.
    """

    vote: Vote
    prune: Prune
    accuracy: list[float]


class Bin(_Part):
    """The answers whose confidence is in one interval of 0 to 1.

    Attributes:
        confidence: their mean confidence.
        accuracy: the fraction of right answers.
        answers: their number, at least 1.
    """

    confidence: float
    accuracy: float
    answers: int


class Reliability(_Part):
    """How well confidence matches accuracy.

    Attributes:
        ece: expected calibration error, the mean distance of confidence and accuracy over the answers, 0 to 1.
        bins: those with answers, by ascending confidence.
    """

    ece: float
    bins: list[Bin]


class Calibration(_Part):
    """The share of the winner, taken as its confidence, before and after a temperature was fitted.

    Attributes:
        temperature: shares are raised to the power of 1 / temperature and normalised; fitted on one half of the
            queries.
        before: without the temperature, on the other half.
        after: with the temperature, on the same half.
    """

    temperature: float
    before: Reliability
    after: Reliability


class PredictionSets(_Part):
    """The measured coverage of prediction sets, calibrated on the memory's own images.

    Attributes:
        coverage: the requested coverage, 0 to 1.
        share: the least share of the vote of a label in the set; 0: every label that got a vote is in it.
        covered: the fraction of queries whose set holds a right label, 0 to 1.
        size: the mean number of labels in a set.
        queries: the number of queries for this.
    """

    coverage: float
    share: float
    covered: float
    size: float
    queries: int


class Histogram(_Part):
    """The numbers of right and wrong answers between edges.

    Attributes:
        edges: ascending, one more than counts.
    """

    edges: list[float]
    right: list[int]
    wrong: list[int]


class Distances(_Part):
    """Cosine distance (1 - similarity) of the queries to the neighbours that voted, 0 to 2: novelty."""

    mean: Histogram
    median: Histogram


class Sensitivity(_Part):
    """Accuracy of one vote under other values of its parameter.

    Attributes:
        accuracy: for each value a curve over k = 1, 2, ..., 0 to 1.
    """

    vote: Vote
    parameter: Literal["alpha", "temperature"]
    values: list[float]
    accuracy: list[list[float]]


class Size(_Part):
    """The errors of random subsets of the memory of one size.

    Attributes:
        errors: the fraction of wrong answers, 0 to 1, for each draw.
    """

    images: int
    errors: list[float]


class Scaling(_Part):
    """Error against the size of the memory, and the paper's line log10(error in %) = a log10(log10(images)) + b.

    Attributes:
        a: null, as `b`, where fewer than two sizes leave an error to fit.
    """

    sizes: list[Size]
    a: float | None
    b: float | None


class Probe(_Part):
    """A linear classifier on the same vectors: the baseline.

    Attributes:
        method: the classifier and its training, in words.
        accuracy: 0 to 1.
        taught: the least number of training images.
        queries: the number of queries.
        votes: accuracy of the vote with the same images on the same queries, 0 to 1.
    """

    method: str
    taught: int
    accuracy: float
    queries: int
    votes: float


class Voted(_Part):
    """A neighbour of a mistake.

    Attributes:
        thumbnail: its file in the report's folder, if any.
    """

    image_id: str
    labels: list[str]
    similarity: float
    thumbnail: str | None = None


class Mistake(_Part):
    """A query with a wrong answer.

    Attributes:
        share: of the vote, for the wrong answer, 0 to 1.
        neighbours: the nearest, at most 5.
        thumbnail: its file in the report's folder, if any.
    """

    image_id: str
    labels: list[str]
    answer: str
    share: float
    neighbours: list[Voted]
    thumbnail: str | None = None


@with_config(coerce_numbers_to_str=True)
class NeighbourList(TypedDict):
    """The neighbours of one image in the format of the paper's authors; nearest first.

    Several labels of one image are a list; the authors' images have one label each.
    """

    featurizer: str
    image_id: str
    image_class: str | list[str]
    neighbor_image_ids: list[str]
    neighbor_classes: list[str | list[str]]
    neighbor_distances: list[FiniteFloat]


class Evaluation(_Part):
    """The results of an evaluation; an answer is right if it is one of the query's labels.

    Attributes:
        encoder: the encoder whose vectors were compared.
        itself: whether the memory was evaluated on itself, leaving one out.
        queries: the number of queries.
        images: the number of images in the memory; where only neighbours are given, the number of different ones.
        k: the requested k, or the number of neighbours where there are fewer.
        accuracy: of the vote and k of the options, 0 to 1.
        prune_above: the least number of wrong votes for which hard pruning excluded an image; null where wrong votes
            could not be counted.
        pruned: the number of images that hard pruning excluded.
        curves: for each vote, without pruning and, where wrong votes could be counted, with it.
        right_at_rank: how often the neighbour at rank 0, 1, ... has a right label, 0 to 1.
        hit_rate: how often a right label is among the k nearest, k = 1, 2, ..., 0 to 1.
        classes: by label, the least accurate first.
        labels: all labels, in the order of the indices in `confusion`.
        confusion: [label, answer, count] of what occurred, as indices into `labels`; a query with several labels
            counts for the one that was answered, or else for its first.
        mistakes: examples, the most confident first, of different confusions.
        calibration: null where there is only one query.
        sets: prediction sets of the same answers; a memory evaluated on itself is calibrated on one half and measured
            on the other. Null where there was nothing to calibrate on.
        recall: of the ``balanced`` search against the exact one, 0 to 1, by k; null where it was not measured.
        fast_recall: the same of the ``fast`` one.
        scaling: null, as `probe`, where there were no vectors or too few of them.
        neighbours: by image id; written to a separate file.
        thumbnails: JPEG files by path in the report's folder.
    """

    encoder: str
    itself: bool
    options: EvaluationOptions
    queries: int
    images: int
    k: int
    accuracy: float
    prune_above: int | None
    pruned: int
    curves: list[Curve]
    right_at_rank: list[float]
    hit_rate: list[float]
    classes: list[ClassReport]
    labels: list[str]
    confusion: list[tuple[int, int, int]]
    mistakes: list[Mistake]
    calibration: Calibration | None
    sets: list[PredictionSets] | None
    distances: Distances
    sensitivity: list[Sensitivity]
    recall: dict[int, float] | None
    fast_recall: dict[int, float] | None
    scaling: Scaling | None
    probe: Probe | None
    neighbours: SkipValidation[dict[str, NeighbourList]] = Field(exclude=True)
    thumbnails: dict[str, bytes] = Field(exclude=True)
