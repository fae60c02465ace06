"""The options of a classification: k, vote, filter, pruning, search effort, and their bounds."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.text_rules import Moment

MAX_K = 1000
MAX_TIMES_K = 4
"""So many times k images are looked at for a picture, at most."""
MAX_VOTES = 32_768
"""Pictures or vectors times k, of one request."""
MAX_LABEL_TEXT = 4 * 2**20
"""Characters of the labels of all neighbours that vote in one request."""
MAX_LEVEL = 100
MAX_CALIBRATED = 100
"""Neighbours of each image that a judgement keeps, and so the largest k that can be compared with the memory's own."""


class Vote(StrEnum):
    """How much a neighbour's vote weighs; the formulas are in `services.voting.vote_weights`."""

    RANK = "rank"
    PLURALITY = "plurality"
    DISTANCE = "distance"
    SOFTMAX = "softmax"


class GroupBy(StrEnum):
    """Which neighbours share one vote: the copies of one ``content``, or ``none``, so that each image has its own."""

    CONTENT = "content"
    NONE = "none"


class VoteOptions(BaseModel):
    """How neighbours vote.

    Attributes:
        alpha: offset of the rank vote, 1 / (rank + alpha); 1e-6 to 1000.
        temperature: tau of the softmax vote, exp(similarity / tau); 0.01 to 100.
        group_by: which neighbours share one rank and one vote; see `services.voting.group_copies`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vote: Vote = Vote.RANK
    alpha: Annotated[float, Field(ge=1e-6, le=1000)] = 2.0
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 0.07
    group_by: GroupBy = GroupBy.CONTENT


class Prune(StrEnum):
    """What the wrong votes of an image, counted leaving one out, cost it (paper, section on pruning)."""

    NONE = "none"
    SOFT = "soft"
    HARD = "hard"


class Effort(StrEnum):
    """How thoroughly neighbours are searched for; see `services.vector_engines.hnsw_parameters`."""

    FAST = "fast"
    BALANCED = "balanced"
    EXACT = "exact"


class ClassifyOptions(VoteOptions):
    """What to ask of a classification.

    Attributes:
        k: how many neighbours vote, 1 to 1000, those that share a vote counted once; fewer where the memory holds
            fewer, or where `Decision.truncated` says so.
        filter: only images that meet it vote.
        search: ``exact`` compares with every image, ``balanced`` finds 99 of a hundred neighbours or more, ``fast``
            about 95.
        show: how many of the neighbours to show, 0 to 1000; left out, all that voted.
        prune: ``soft``: an image's vote is multiplied by 1.75 / (1 + its wrong votes); ``hard``: images with
            `prune_above` or more wrong votes do not vote; left out, as the settings say. Where no judgement counts
            nobody is pruned, and the decision's own options say ``none``.
        prune_above: wrong votes from which on ``hard`` leaves an image out, at least 1.
        level: labels are cut to their first so many parts before they vote, 1 to 100.
        back_off: answer at the deepest level of the label paths at which a label has at least this share of the vote,
            above 0 to 1; no label where none has it even at the top.
        as_of: only the memory as it stood at this moment votes: images that had been accepted by then, with the labels
            that they had then. What has been removed or replaced since stays so; so does what has been muted, and
            `filter` speaks of the images as they are now.
        unknown_above: answer no label where the picture is further from its neighbours than this percentage of the
            memory's own images are from theirs, 0 to 100. Needs a judged memory and a k of at most 100, and is
            calibrated on the whole memory: under a filter, neighbours are further away.
        coverage: name a set of labels that holds the right one with this probability, 0.5 to 0.999, for pictures like
            those in memory. Needs a judged memory and a k of at most 100, and holds without `filter` and `as_of`.
        rerank: let a vision-language model decide where the vote is close, if the settings name one.
        store: keep the decision, so that it can be looked up and replayed.
    """

    k: Annotated[int, Field(ge=1, le=MAX_K)] = 50
    filter: Filter = Filter({})
    search: Effort = Effort.BALANCED
    show: Annotated[int, Field(ge=0, le=MAX_K)] | None = None
    prune: Prune | None = None
    prune_above: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    level: Annotated[int, Field(ge=1, le=MAX_LEVEL)] | None = None
    back_off: Annotated[float, Field(gt=0, le=1)] | None = None
    as_of: Moment | None = None
    unknown_above: Annotated[float, Field(ge=0, le=100)] | None = None
    coverage: Annotated[float, Field(ge=0.5, le=0.999)] | None = None
    rerank: bool = False
    store: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether it asks for what is measured by a judgement of the memory."""
        return self.unknown_above is not None or self.coverage is not None

    @model_validator(mode="after")
    def _comparable(self) -> "ClassifyOptions":
        if self.calibrated and self.k > MAX_CALIBRATED:
            raise ValueError(f"unknown_above and coverage take a k of at most {MAX_CALIBRATED}, not {self.k}")
        return self


QueryVector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=65536, fail_fast=True)]
