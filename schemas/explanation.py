"""What is asked of stored decisions: replays, counterfactuals, previews of an intervention, influence."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.background_job import Job
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision, Neighbour
from visual_memory.schemas.filter import MAX_VALUES, Filter
from visual_memory.schemas.text_rules import ImageId, Label

MAX_LAST = 1000

SomeImages = Annotated[list[ImageId], Field(max_length=MAX_VALUES)]


class ReplayRequest(BaseModel):
    """How to run a stored decision again.

    Attributes:
        without: images that shall not vote.
        options: instead of those it was made with; left out, the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    without: SomeImages = Field(default_factory=list)
    options: ClassifyOptions | None = None


class Gone(BaseModel):
    """A neighbour that voted then and does not now, and why."""

    neighbour: Neighbour
    why: str


class Relabelled(BaseModel):
    """A neighbour whose labels are others now."""

    image_id: str
    before: list[str]
    after: list[str]


class Reweighted(BaseModel):
    """A neighbour whose vote weighs more or less now, because of its place or its reliability."""

    image_id: str
    before: float
    after: float


class Replay(BaseModel):
    """A stored decision run against today's memory.

    Attributes:
        before: the label of the stored vote; a re-rank is not run again, and not compared.
        changed: whether the label is another now.
        options: as they were applied today.
        decision: today's.
        came: neighbours that vote now and did not then.
    """

    before: str | None
    changed: bool
    options: ClassifyOptions
    decision: Decision
    came: list[Neighbour]
    gone: list[Gone]
    relabelled: list[Relabelled]
    reweighted: list[Reweighted]


class Pivot(BaseModel):
    """An image that a vote hangs on.

    Attributes:
        rank: its place from the nearest, those that share a vote counted once; `options.k` or more where it votes only
            once others are gone.
    """

    rank: int
    image_id: str
    similarity: float
    labels: list[str]


class Counterfactual(BaseModel):
    """The smallest set of images without which today's vote would have another winner.

    Attributes:
        label: today's winner, by exact search; before abstaining or a re-rank; at the level that it backed off to.
        becomes: the winner without `images`, as it came out when it was run; null where no set was found.
        images: the set; empty where none was found, and then `reason` says why.
        truncated: as `Decision.truncated`, of the images that were looked at: there may be a smaller set then.
    """

    label: str | None
    becomes: str | None = None
    images: list[Pivot] = Field(default_factory=list)
    reason: str | None = None
    truncated: bool = False


class Intervention(StrEnum):
    """What may be done to images; to a vote, muting and removing are the same."""

    MUTE = "mute"
    RELABEL = "relabel"
    REMOVE = "remove"


class PreviewRequest(BaseModel):
    """What is to be done, and to which images: at most 1,000, by id or by filter.

    Attributes:
        labels: the new ones, where they are to be relabelled.
        last: how many of the latest stored decisions are run again.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "anyOf": [
                {"required": ["image_ids"], "properties": {"image_ids": {"minItems": 1}}},
                {"required": ["filter"]},
            ]
        },
    )

    action: Intervention
    image_ids: SomeImages = Field(default_factory=list)
    filter: Filter | None = None
    labels: Annotated[list[Label], Field(max_length=32)] = Field(default_factory=list)
    last: Annotated[int, Field(ge=1, le=MAX_LAST)] = 100

    @model_validator(mode="after")
    def _says_what(self) -> "PreviewRequest":
        if bool(self.image_ids) == (self.filter is not None):
            raise ValueError("name the images by image_ids or by filter: one of the two")
        if bool(self.labels) != (self.action is Intervention.RELABEL):
            raise ValueError("labels go with relabel, and only with it")
        return self


class LabelChange(BaseModel):
    """A stored decision whose label would be another; `before` is what it would be today."""

    id: str
    asked_at: datetime
    before: str | None
    after: str | None


class Preview(BaseModel):
    """What an intervention would do.

    Attributes:
        images: how many images it would be done to.
        decisions: how many stored decisions were run again: the latest, of today's encoder.
        touched: in how many of them one of the images votes.
        changed: those whose label would be another.
    """

    images: int
    decisions: int
    touched: int
    changed: list[LabelChange]


class InfluentialImage(BaseModel):
    """An image that gives votes to winners.

    Attributes:
        share: the sum of its shares of the votes that its label won.
        decisions: how many votes those are.
    """

    image_id: str
    labels: list[str]
    source: str | None
    share: float
    decisions: int


class Weight(BaseModel):
    """The part that a label or a source has in the votes that were won: the sum of the winners' voters' shares."""

    name: str | None
    share: float


class Influence(BaseModel):
    """Which images decide most of the latest stored decisions; the most influential first, at most 20 of each.

    Attributes:
        decisions: how many there are to tell from.
        labels: by the label that won.
        sources: by the source of the images, null where they have none.
    """

    decisions: int
    images: list[InfluentialImage]
    labels: list[Weight]
    sources: list[Weight]


class ExplanationJob(Job):
    """A question that takes longer than an answer may; a removal takes it away, whatever it has found.

    Attributes:
        decision: whose counterfactual is looked for.
        last: on how many of the latest decisions influence is looked for.
        counterfactual: once it is found.
        influence: once it is found.
    """

    decision: str | None = None
    last: int | None = None
    counterfactual: Counterfactual | None = None
    influence: Influence | None = None
