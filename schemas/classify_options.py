"""The options of a classification: k, vote, filter, pruning, search effort, and their bounds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.moments import Moment

MAX_K = 1000
MAX_TIMES_K = 4
"""The search for a query looks at no more than this many times k images."""
MAX_VOTES = 32_768
"""The most votes of one request: its pictures or vectors times k."""
MAX_LABEL_TEXT = 4 * 2**20
"""The most characters in the labels of all neighbours of one request."""
MAX_LEVEL = 100
MAX_CALIBRATED = 100
"""Neighbours of each image in a judgement, and so the largest k for `unknown_above` and `coverage`."""


class Vote(OpenEnum):
    """How a neighbour's vote is weighted; the formulas are in `services.voting.vote_weights`."""

    RANK = "rank"
    PLURALITY = "plurality"
    DISTANCE = "distance"
    SOFTMAX = "softmax"


class GroupBy(OpenEnum):
    """Which neighbours share one vote: copies of the same ``content``, or ``none``: each image has its own vote."""

    CONTENT = "content"
    NONE = "none"


class VoteOptions(BaseModel):
    """How neighbours vote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vote: Vote = Field(default=Vote.RANK, description="how a neighbour's vote is weighted", examples=["rank"])
    alpha: Annotated[float, Field(ge=1e-6, le=1000)] = Field(
        default=2.0, description="offset of the rank vote, 1 / (rank + alpha); 1e-6 to 1000", examples=[2.0]
    )
    temperature: Annotated[float, Field(ge=0.01, le=100)] = Field(
        default=0.07, description="tau of the softmax vote, exp(similarity / tau); 0.01 to 100", examples=[0.07]
    )
    group_by: GroupBy = Field(
        default=GroupBy.CONTENT,
        description="which neighbours share one rank and one vote; see `services.voting.group_copies`",
        examples=["content"],
    )


class Prune(OpenEnum):
    """How wrong votes of an image, counted leaving one out, reduce its weight (paper, section on pruning)."""

    NONE = "none"
    SOFT = "soft"
    HARD = "hard"


class Effort(OpenEnum):
    """How thorough the search for neighbours is; see `services.vector_engines.hnsw_parameters`."""

    FAST = "fast"
    BALANCED = "balanced"
    EXACT = "exact"


class ClassifyOptions(VoteOptions):
    """The options of a classification."""

    k: Annotated[int, Field(ge=1, le=MAX_K)] = Field(
        default=50,
        description=(
            "the number of neighbours that vote, 1 to 1000; those that share a vote count once. Fewer vote "
            "where the memory has fewer, or where `Decision.truncated` is true."
        ),
        examples=[50],
    )
    filter: Filter = Field(
        default=Filter({}), description="only images that meet it vote", examples=[{"source": "camera-1"}]
    )
    effort: Effort = Field(
        default=Effort.BALANCED,
        description=(
            "`exact` compares with every image; `balanced` finds at least 99 % of the neighbours, `fast` about 95 %"
        ),
        examples=["balanced"],
    )
    show: Annotated[int, Field(ge=0, le=MAX_K)] | None = Field(
        default=None,
        description="the number of neighbours in the response, 0 to 1000; by default all that voted",
        examples=[5],
    )
    prune: Prune | None = Field(
        default=None,
        description=(
            "`soft`: an image's weight is multiplied by 1.75 / (1 + its wrong votes); `hard`: images with "
            "`prune_above` or more wrong votes do not vote; by default as the settings say. Without a current"
            " judgement no image is pruned, and the options of the response say `none`."
        ),
        examples=["soft"],
    )
    prune_above: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=16,
        description="the least number of wrong votes for which `hard` excludes an image, at least 1",
        examples=[16],
    )
    level: Annotated[int, Field(ge=1, le=MAX_LEVEL)] | None = Field(
        default=None,
        description="labels are cut to this number of leading parts before they vote, 1 to 100",
        examples=[1],
    )
    back_off: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description=(
            "answer at the deepest level of the label paths at which a label has at least this share of the "
            "vote, above 0 to 1; no label where none has it at the top level"
        ),
        examples=[0.8],
    )
    as_of: Moment | None = Field(
        default=None,
        description=(
            "the moment whose memory votes: only images accepted by then, with the labels that they had then."
            " Images that were removed, replaced or muted since do not vote, and `filter` refers to the "
            "images as they are now."
        ),
        examples=["2026-01-31T12:00:00Z"],
    )
    unknown_above: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description=(
            "answer no label where the query is further from its neighbours than this share of the memory's "
            "own images are from theirs, 0 to 1. Needs a judged memory and a k of at most 100, and is "
            "calibrated on the whole memory: under a filter, neighbours are further away."
        ),
        examples=[0.95],
    )
    coverage: Annotated[float, Field(ge=0.5, le=0.999)] | None = Field(
        default=None,
        description=(
            "return a set of labels that holds the right one with this probability, 0.5 to 0.999, for "
            "pictures like those in memory. Needs a judged memory and a k of at most 100, and holds without "
            "`filter` and `as_of`."
        ),
        examples=[0.9],
    )
    rerank: bool = Field(
        default=False,
        description="let a vision-language model decide close votes, if the settings name one",
        examples=[False],
    )
    store: bool = Field(default=False, description="store the decision, for lookups and replays", examples=[False])

    @property
    def calibrated(self) -> bool:
        """Whether novelty or a prediction set is requested, which need a judgement of the memory."""
        return self.unknown_above is not None or self.coverage is not None

    @model_validator(mode="after")
    def _comparable(self) -> "ClassifyOptions":
        if self.calibrated and self.k > MAX_CALIBRATED:
            raise ValueError(f"unknown_above and coverage take a k of at most {MAX_CALIBRATED}, not {self.k}")
        return self


QueryVector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=65536, fail_fast=True)]
