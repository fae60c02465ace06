"""A decision: how the neighbours of a picture voted, with all that is needed to count the votes again by hand."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from schemas.filter import Filter

MAX_K = 1000


class Vote(StrEnum):
    """How much a neighbour's vote weighs; the formulas are in `services.decision.votes`."""

    RANK = "rank"
    PLURALITY = "plurality"
    DISTANCE = "distance"
    SOFTMAX = "softmax"


class VoteOptions(BaseModel):
    """How neighbours vote.

    Attributes:
        alpha: offset of the rank vote, 1 / (rank + alpha); 1e-6 to 1000.
        temperature: tau of the softmax vote, exp(similarity / tau); 0.01 to 100.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vote: Vote = Vote.RANK
    alpha: Annotated[float, Field(ge=1e-6, le=1000)] = 2.0
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 0.07


class ClassifyOptions(VoteOptions):
    """What to ask of a classification.

    Attributes:
        k: how many neighbours vote, 1 to 1000; fewer where the memory holds fewer.
        filter: only images that meet it vote.
        exact: compare with every image instead of searching approximately.
        show: how many of the neighbours to show, 0 to 1000; left out, all that voted.
    """

    k: Annotated[int, Field(ge=1, le=MAX_K)] = 50
    filter: Filter = Filter({})
    exact: bool = False
    show: Annotated[int, Field(ge=0, le=MAX_K)] | None = None


class Neighbour(BaseModel):
    """A remembered image that voted.

    Attributes:
        rank: its place from the nearest, counted from 0.
        similarity: cosine similarity to the query, -1 to 1.
        weight: what it gives to each of its labels.
        share: its weight as part of the sum of all scores, 0 to 1.
    """

    model_config = ConfigDict(frozen=True)

    rank: int
    image_id: str
    similarity: float
    labels: list[str]
    weight: float
    share: float


class ClassShare(BaseModel):
    """A class's part of the vote: the sum of its neighbours' weights, and that as part of the sum of all scores."""

    model_config = ConfigDict(frozen=True)

    label: str
    score: float
    share: float


class Decision(BaseModel):
    """The outcome of a vote.

    Attributes:
        label: the winner; null where nobody voted, and then `reason` says why.
        shares: every class that got a vote, the winner first, then by score.
        margin: the winner's share less the runner-up's, 0 to 1.
        voters: how many neighbours voted, at most k.
        neighbours: those that are shown, the nearest first.
        encoder: the name of the encoder whose vectors were compared.
    """

    model_config = ConfigDict(frozen=True)

    label: str | None
    reason: str | None = None
    margin: float = 0.0
    shares: list[ClassShare] = Field(default_factory=list)
    voters: int = 0
    neighbours: list[Neighbour] = Field(default_factory=list)
    encoder: str
    options: ClassifyOptions


class Decisions(BaseModel):
    """One decision for each picture or vector, in the order they came."""

    decisions: list[Decision]


QueryVector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=65536, fail_fast=True)]
