"""Explanations of stored decisions: replay, counterfactual, intervention preview, influence."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision, Neighbour
from visual_memory.schemas.filter import MAX_VALUES, Filter
from visual_memory.schemas.text_rules import ImageId, Label

MAX_LAST = 1000

SomeImages = Annotated[list[ImageId], Field(max_length=MAX_VALUES)]


class ReplayRequest(BaseModel):
    """How to run a stored decision again.

    Attributes:
        without: images that do not vote.
        options: instead of the stored ones; by default the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    without: SomeImages = Field(default_factory=list)
    options: ClassifyOptions | None = None


class Gone(BaseModel):
    """A neighbour that voted in the stored decision and does not now, and why."""

    neighbour: Neighbour
    why: str


class Relabelled(BaseModel):
    """A neighbour whose labels have changed."""

    image_id: str
    before: list[str]
    after: list[str]


class Reweighted(BaseModel):
    """A neighbour whose weight has changed, because of its rank or its reliability."""

    image_id: str
    before: float
    after: float


class Replay(BaseModel):
    """A stored decision run against today's memory.

    Attributes:
        before: the label of the stored vote; a re-rank is neither repeated nor compared.
        changed: whether the label has changed.
        options: as they were applied today.
        decision: of today's memory.
        came: neighbours that vote now and did not in the stored decision.
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
    """An image of a counterfactual's set.

    Attributes:
        rank: its rank from the nearest, where those that share a vote count once; `options.k` or more where it votes
            only after others are left out.
    """

    rank: int
    image_id: str
    similarity: float
    labels: list[str]


class Counterfactual(BaseModel):
    """The smallest set of images without which today's vote would have another winner.

    Attributes:
        label: today's winner, by exact search; before abstaining or a re-rank; at the level that it backed off to.
        becomes: the winner of a vote without `images`; null where no set was found.
        images: the set; empty where none was found, and then `reason` says why.
        truncated: as `Decision.truncated`, of the images of the search: if true, there may be a smaller set.
    """

    label: str | None
    becomes: str | None = None
    images: list[Pivot] = Field(default_factory=list)
    reason: str | None = None
    truncated: bool = False


class Intervention(StrEnum):
    """What may be done to images; muting and removing have the same effect on a vote."""

    MUTE = "mute"
    RELABEL = "relabel"
    REMOVE = "remove"


class DecisionPreviewRequest(BaseModel):
    """The intervention, and its images: at most 1,000, by id or by filter.

    Attributes:
        labels: the new ones, for ``relabel``.
        last: the number of the latest stored decisions that are run again.
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
    def _names_images(self) -> "DecisionPreviewRequest":
        if bool(self.image_ids) == (self.filter is not None):
            raise ValueError("name the images by image_ids or by filter: one of the two")
        if bool(self.labels) != (self.action is Intervention.RELABEL):
            raise ValueError("labels go with relabel, and only with it")
        return self


class LabelChange(BaseModel):
    """A stored decision whose label would change; `before` is its label by today's memory."""

    id: str
    asked_at: datetime
    before: str | None
    after: str | None


class DecisionPreview(BaseModel):
    """The effect of an intervention on stored decisions.

    Attributes:
        images: the number of images that it covers.
        decisions: the number of stored decisions that were run again: the latest, of encoders that the memory knows.
        touched: the number of these in which one of the images votes.
        changed: those whose label would change.
    """

    images: int
    decisions: int
    touched: int
    changed: list[LabelChange]


class InfluentialImage(BaseModel):
    """An image that voted for winners.

    Attributes:
        share: the sum of its shares of the votes that its label won.
        decisions: the number of these votes.
    """

    image_id: str
    labels: list[str]
    source: str | None
    share: float
    decisions: int


class Weight(BaseModel):
    """The influence of a label or a source: the sum of the shares of neighbours that voted for winners."""

    name: str | None
    share: float


class Influence(BaseModel):
    """Which images decide most of the latest stored decisions; the most influential first, at most 20 of each.

    Attributes:
        decisions: the number of decisions that were read.
        labels: by winning label.
        sources: by the source of the images, null where they have none.
    """

    decisions: int
    images: list[InfluentialImage]
    labels: list[Weight]
    sources: list[Weight]
