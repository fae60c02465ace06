"""Explanations of stored decisions: replay, counterfactual, intervention preview, influence."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.decision import Decision, Neighbour
from visual_memory.schemas.filter import MAX_VALUES, Filter
from visual_memory.schemas.text_rules import ImageId, Label

MAX_LAST = 1000

SomeImages = Annotated[list[ImageId], Field(max_length=MAX_VALUES)]


class ReplayRequest(BaseModel):
    """How to run a stored decision again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    without: SomeImages = Field(default_factory=list, description="images that do not vote", examples=[["cat-17"]])
    options: ClassifyOptions | None = Field(default=None, description="instead of the stored ones; by default the same")


class Gone(BaseModel):
    """A neighbour that voted in the stored decision and does not now, and why."""

    neighbour: Neighbour = Field(description="the neighbour, as it was in the stored decision")
    why: str = Field(description="why it does not vote now", examples=["removed"])


class Relabelled(BaseModel):
    """A neighbour whose labels have changed."""

    image_id: str = Field(description="the image's id", examples=["cat-17"])
    before: list[str] = Field(description="its labels in the stored decision", examples=[["cat"]])
    after: list[str] = Field(description="its labels now", examples=[["dog"]])


class Reweighted(BaseModel):
    """A neighbour whose weight has changed, because of its rank or its reliability."""

    image_id: str = Field(description="the image's id", examples=["cat-17"])
    before: float = Field(description="its weight in the stored decision", examples=[0.4])
    after: float = Field(description="its weight now", examples=[0.31])


class Replay(BaseModel):
    """A stored decision run against today's memory."""

    before: str | None = Field(
        description="the label of the stored vote; a re-rank is neither repeated nor compared", examples=["cat"]
    )
    changed: bool = Field(description="whether the label has changed", examples=[True])
    options: ClassifyOptions = Field(description="as they were applied today")
    decision: Decision = Field(description="of today's memory")
    came: list[Neighbour] = Field(description="neighbours that vote now and did not in the stored decision")
    gone: list[Gone] = Field(description="neighbours that voted in the stored decision and do not now")
    relabelled: list[Relabelled] = Field(description="neighbours that voted both times, with other labels")
    reweighted: list[Reweighted] = Field(description="neighbours that voted both times, with another weight")


class Pivot(BaseModel):
    """An image of a counterfactual's set."""

    rank: int = Field(
        description=(
            "its rank from the nearest, where those that share a vote count once; `options.k` or more where "
            "it votes only after others are left out"
        ),
        examples=[1],
    )
    image_id: str = Field(description="the image's id", examples=["cat-17"])
    similarity: float = Field(description="cosine similarity to the query, -1 to 1", examples=[0.87])
    labels: list[str] = Field(description="the image's labels", examples=[["cat"]])


class Counterfactual(BaseModel):
    """The smallest set of images without which today's vote would have another winner."""

    label: str | None = Field(
        description=(
            "today's winner, by exact search; before abstaining or a re-rank; at the level that it backed off to"
        ),
        examples=["cat"],
    )
    becomes: str | None = Field(
        default=None, description="the winner of a vote without `images`; null where no set was found", examples=["dog"]
    )
    images: list[Pivot] = Field(
        default_factory=list, description="the set; empty where none was found, and then `reason` says why"
    )
    reason: str | None = Field(
        default=None, description="why there is no such set of images; else null", examples=[None]
    )
    truncated: bool = Field(
        default=False,
        description="as `Decision.truncated`, of the images of the search: if true, there may be a smaller set",
        examples=[False],
    )


class Intervention(OpenEnum):
    """What may be done to images; muting and removing have the same effect on a vote."""

    MUTE = "mute"
    RELABEL = "relabel"
    REMOVE = "remove"


class DecisionPreviewRequest(BaseModel):
    """The intervention, and its images: at most 1,000, by id or by filter."""

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

    action: Intervention = Field(description="what would happen to the images", examples=["mute"])
    image_ids: SomeImages = Field(
        default_factory=list, description="ids of the images; or give a filter", examples=[["cat-17", "cat-18"]]
    )
    filter: Filter | None = Field(
        default=None, description="the images that meet it; or give their ids", examples=[{"source": "camera-1"}]
    )
    labels: Annotated[list[Label], Field(max_length=32)] = Field(
        default_factory=list, description="the new ones, for `relabel`", examples=[["cat"]]
    )
    last: Annotated[int, Field(ge=1, le=MAX_LAST)] = Field(
        default=100, description="the number of the latest stored decisions that are run again", examples=[1000]
    )

    @model_validator(mode="after")
    def _names_images(self) -> "DecisionPreviewRequest":
        if bool(self.image_ids) == (self.filter is not None):
            raise ValueError("name the images by image_ids or by filter: one of the two")
        if bool(self.labels) != (self.action is Intervention.RELABEL):
            raise ValueError("labels go with relabel, and only with it")
        return self


class LabelChange(BaseModel):
    """A stored decision whose label would change; `before` is its label by today's memory."""

    id: str = Field(description="the decision's id", examples=["4f1c0a7b9d2e"])
    asked_at: datetime = Field(description="when the decision was made", examples=["2026-01-31T12:00:00Z"])
    before: str | None = Field(description="its label", examples=["cat"])
    after: str | None = Field(description="the label that it would have; null: none", examples=["dog"])


class DecisionPreview(BaseModel):
    """The effect of an intervention on stored decisions."""

    images: int = Field(description="the number of images that it covers", examples=[12])
    decisions: int = Field(
        description=(
            "the number of stored decisions that were run again: the latest, of encoders that the memory knows"
        ),
        examples=[120],
    )
    touched: int = Field(description="the number of these in which one of the images votes", examples=[3])
    changed: list[LabelChange] = Field(description="those whose label would change")


class InfluentialImage(BaseModel):
    """An image that voted for winners."""

    image_id: str = Field(description="the image's id", examples=["cat-17"])
    labels: list[str] = Field(description="the image's labels", examples=[["cat"]])
    source: str | None = Field(description="the image's source", examples=["camera-1"])
    share: float = Field(description="the sum of its shares of the votes that its label won", examples=[0.8])
    decisions: int = Field(description="the number of these votes", examples=[12])


class Weight(BaseModel):
    """The influence of a label or a source: the sum of the shares of neighbours that voted for winners."""

    name: str | None = Field(description="the label or source; null: images without one", examples=["cat"])
    share: float = Field(description="the sum of its shares of the votes", examples=[0.8])


class Influence(BaseModel):
    """Which images decide most of the latest stored decisions; the most influential first, at most 20 of each."""

    decisions: int = Field(description="the number of decisions that were read", examples=[120])
    images: list[InfluentialImage] = Field(description="the images with the most influence, the strongest first")
    labels: list[Weight] = Field(description="by winning label")
    sources: list[Weight] = Field(description="by the source of the images, null where they have none")
