"""An evaluation: labelled pictures classified against a memory, or the memory against itself leaving one out."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, SkipValidation, with_config
from typing_extensions import TypedDict

from visual_memory.schemas.classify_options import Prune, Vote, VoteOptions
from visual_memory.schemas.judgement import ClassReport

MOST_NEIGHBOURS = 100


class EvaluationOptions(VoteOptions):
    """What to ask of an evaluation; `vote` and `k` are those whose answers are looked at closely.

    Attributes:
        k: how many neighbours vote for the answers of which confusions, calibration and novelty speak, 1 to 100.
        k_max: the curves show every k up to this, 1 to 100.
        prune_above: wrong votes, counted over 100 neighbours, from which on hard pruning leaves an image out; left out,
            the paper's 128, or three times the mean where that is more, as it is where classes hold few images.
        seed: of the draws: halves, subsets of the memory, folds.
    """

    k: Annotated[int, Field(ge=1, le=MOST_NEIGHBOURS)] = 50
    k_max: Annotated[int, Field(ge=1, le=MOST_NEIGHBOURS)] = MOST_NEIGHBOURS
    prune_above: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


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
    """The answers whose confidence falls into one part of 0 to 1.

    Attributes:
        confidence: the mean of their confidence.
        accuracy: the part of them that is right.
        answers: how many they are, at least 1.
    """

    confidence: float
    accuracy: float
    answers: int


class Reliability(_Part):
    """How far confidence keeps what it promises.

    Attributes:
        ece: expected calibration error, the mean distance of confidence and accuracy over the answers, 0 to 1.
        bins: those that hold any answer, by ascending confidence.
    """

    ece: float
    bins: list[Bin]


class Calibration(_Part):
    """The share of the winner, taken as its confidence, before and after a temperature was fitted.

    Attributes:
        temperature: shares to the power of 1 / temperature, again made to sum to 1; fitted on one half of the queries.
        before: as the vote says it, on the other half.
        after: with the temperature, on the same half.
    """

    temperature: float
    before: Reliability
    after: Reliability


class PredictionSets(_Part):
    """Sets of labels that are to hold a right one so often, calibrated on the memory's own images.

    Attributes:
        coverage: how often, 0 to 1.
        share: the share of the vote from which on a label is in the set; 0: every label that got a vote is.
        covered: how often the set does hold a right label, 0 to 1.
        size: how many labels it holds, on average.
        queries: on how many pictures this was measured.
    """

    coverage: float
    share: float
    covered: float
    size: float
    queries: int


class Histogram(_Part):
    """How often right and wrong answers fell between two edges.

    Attributes:
        edges: ascending, one more than there are counts.
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
    """A memory of so many images, drawn at random from the whole.

    Attributes:
        errors: the part of the queries answered wrongly, 0 to 1, for each draw.
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
        method: what it is, and how it was trained, in words.
        accuracy: 0 to 1.
        taught: with how many images at least.
        queries: how many it was asked.
        votes: accuracy of the vote of the same images on the same queries, 0 to 1.
    """

    method: str
    taught: int
    accuracy: float
    queries: int
    votes: float


class Voted(_Part):
    """A neighbour beside a mistake.

    Attributes:
        thumbnail: its file in the report's folder, if it has one.
    """

    image_id: str
    labels: list[str]
    similarity: float
    thumbnail: str | None = None


class Mistake(_Part):
    """A query that was answered wrongly.

    Attributes:
        share: of the vote, for the wrong answer, 0 to 1.
        neighbours: the nearest, at most 5.
        thumbnail: its file in the report's folder, if it has one.
    """

    image_id: str
    labels: list[str]
    answer: str
    share: float
    neighbours: list[Voted]
    thumbnail: str | None = None


@with_config(coerce_numbers_to_str=True)
class NeighbourList(TypedDict):
    """The neighbours of one image, as the paper's authors exchange them; nearest first.

    Several labels of one image are a list; the authors' own have one each.
    """

    featurizer: str
    image_id: str
    image_class: str | list[str]
    neighbor_image_ids: list[str]
    neighbor_classes: list[str | list[str]]
    neighbor_distances: list[FiniteFloat]


class Evaluation(_Part):
    """What an evaluation found; an answer is right if it is one of the query's labels.

    Attributes:
        encoder: whose vectors were compared.
        itself: whether the memory was asked about itself, leaving one out.
        queries: how many pictures were asked about.
        images: how many images the memory holds, or, of neighbours alone, how many occur among them.
        k: as asked, or as many neighbours as there are.
        accuracy: of the vote and k of the options, 0 to 1.
        prune_above: wrong votes from which on hard pruning left an image out; null where none could be counted.
        pruned: how many images hard pruning left out.
        curves: for each vote, without pruning and, where wrong votes could be counted, with it.
        right_at_rank: how often the neighbour at rank 0, 1, ... carries a right label, 0 to 1.
        hit_rate: how often a right label is among the k nearest, k = 1, 2, ..., 0 to 1.
        classes: by label, the least accurate first.
        labels: all labels, in the order to which `confusion` refers.
        confusion: [label, answer, count] of what occurred, as places in `labels`; a query with several labels counts
            for the one that was answered, or else for its first.
        mistakes: examples, the most confident first, of different confusions.
        calibration: null where there is only one query.
        sets: prediction sets of the same answers; the memory asked about itself is calibrated on one half and measured
            on the other. Null where there was nothing to calibrate on.
        recall: of the ``balanced`` search against the exact one, 0 to 1, by k; null where none was asked.
        fast_recall: the same of the ``fast`` one.
        scaling: null, as `probe`, where there were no vectors or too few of them.
        neighbours: by image id; a file of its own.
        thumbnails: JPEG files by their path in the report's folder.
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
