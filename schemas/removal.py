"""A removal: its request, its preview, and its record."""

import re

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.text_rules import Text


class RemovalRequest(BaseModel):
    """What to remove and why."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "anyOf": [
                {"required": ["filter"], "properties": {"filter": {"minProperties": 1}}},
                {"required": ["everything"], "properties": {"everything": {"const": True}}},
            ]
        },
    )

    filter: Filter = Field(
        default=Filter({}),
        description="every image that meets it is removed; not empty",
        examples=[{"subject": "ann"}],
    )
    everything: bool = Field(
        default=False, description="instead of a filter: remove all images of the tenant", examples=[False]
    )
    reason: Text = Field(
        description="for the record, 1 to 200 characters; it must not contain a value of the filter",
        examples=["requested on 3 May"],
    )
    block: bool = Field(
        default=False,
        description="add the removed contents, and the subjects of the filter, to the blocklist",
        examples=[True],
    )
    erase_now: bool = Field(
        default=False,
        description="erase the bytes from the disk at once, instead of within the service's usual time",
        examples=[False],
    )

    @model_validator(mode="after")
    def _check_filter(self) -> "RemovalRequest":
        if bool(self.filter) == self.everything:
            raise ValueError("give a filter with at least one condition, or everything: true; one of the two")
        return self

    @model_validator(mode="after")
    def _check_reason(self) -> "RemovalRequest":
        """Refuse values of the filter in the reason, which is stored in the receipt."""
        reason = self.reason.casefold()
        for value in self.filter.named():
            if re.search(rf"(?<!\w){re.escape(value.casefold())}(?!\w)", reason):
                raise ValueError(
                    "reason: it contains a value of the filter, and is stored in the receipt: leave that value out"
                )
        return self


class SampleImage(BaseModel):
    """One of the images that a removal would cover."""

    model_config = ConfigDict(frozen=True)

    image_id: str = Field(description="the id of the image", examples=["cat-17"])
    file_name: str | None = Field(
        description="the name of its file; null where it has none, or the key has no scope `read`",
        examples=["cat-17.jpg"],
    )
    labels: list[str] = Field(description="its labels", examples=[["animal/cat"]])
    state: State = Field(description="its state", examples=[State.REMEMBERED])


class RemovalPreview(BaseModel):
    """What a removal would cover now, and what else it would delete or change."""

    model_config = ConfigDict(frozen=True)

    images: int = Field(description="the number of images", examples=[3])
    by_label: dict[str, int] = Field(
        description="the number of images by label, the most frequent first; at most 1,000 labels",
        examples=[{"animal/cat": 2, "animal/dog": 1}],
    )
    by_state: dict[State, int] = Field(
        description="the number of images by state; states without images are left out", examples=[{"remembered": 3}]
    )
    by_source: dict[str, int] = Field(
        description="the number of images by source, the most frequent first; at most 1,000 sources, and without "
        "images that have none",
        examples=[{"camera-1": 3}],
    )
    queued: int | None = Field(
        description="the number of entries and dead letters of the intake, none of which is an image yet; null where "
        "the intake does not answer",
        examples=[0],
    )
    samples: list[SampleImage] = Field(description="some of the images, at most 20")
    decisions: int = Field(
        description="the number of stored decisions that mention the images: they are counted again without them, or "
        "deleted",
        examples=[12],
    )
    evaluations: int = Field(description="the number of evaluations that would be deleted", examples=[1])
    explanations: int = Field(
        description="the number of counterfactuals and influences, as jobs, that would be deleted", examples=[0]
    )
    judgement: bool = Field(
        description="whether there is a judgement of the memory, which would be changed to one without the images",
        examples=[True],
    )
    is_estimate: bool = Field(
        description="whether there was not time to search all of the intake and all stored decisions: then `queued` "
        "and `decisions` are at least so many",
        examples=[False],
    )
    backups: list[AwareDatetime] = Field(
        description="when the recorded backups were begun that may hold some of the images, the latest first, at most "
        "1,000: a removal does not reach them, but a restore leaves out what was removed",
        examples=[["2026-05-03T02:00:00Z"]],
    )


class RemovalStatus(OpenEnum):
    """The status of a removal; ``done`` after it was verified that nothing that it covers is left."""

    RUNNING = "running"
    DONE = "done"


class Erasure(BaseModel):
    """The effect of a compaction after the removal on the bytes on the disk."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime = Field(description="when it ended", examples=["2026-05-03T10:25:00Z"])
    erased: bool = Field(
        description="whether the bytes of points and pictures are erased from the store's files", examples=[True]
    )
    note: str = Field(
        default="",
        description="what the store was requested to do instead, and what its operator must do",
        examples=["a vacuum of the Qdrant server was requested"],
    )


class Removal(BaseModel):
    """The record of a removal."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="the id of the removal", examples=["7c3f1c1e-2f6b-4a38-8b43-5d6c4c1f0a55"])
    filter: Filter | None = Field(
        description="the filter of the request; null once the removal is done, because nothing that identifies "
        "removed images is kept",
        examples=[{"subject": "ann"}],
    )
    everything: bool = Field(description="whether all images of the tenant are removed", examples=[False])
    reason: str = Field(description="why, as it was requested", examples=["requested on 3 May"])
    block: bool = Field(
        description="whether the removed contents, and the subjects of the filter, are refused from now on",
        examples=[True],
    )
    requested_by: str = Field(description="the name of the key, and its id", examples=["web (key 5f0c2a9be310)"])
    requested_at: AwareDatetime = Field(description="when it was requested", examples=["2026-05-03T10:15:00Z"])
    erase_now: bool = Field(
        default=False,
        description="whether its bytes are erased from the disk at once, and not together with those of other removals",
        examples=[False],
    )
    status: RemovalStatus = Field(
        default=RemovalStatus.RUNNING,
        description="`done` after it was verified that nothing that it covers is left",
        examples=[RemovalStatus.DONE],
    )
    stage: str = Field(
        default="",
        description="the current step: `mark`, `delete`, `seal` or `mirror`; empty once it is done",
        examples=["delete"],
    )
    done: int = Field(default=0, description="how many of the covered images are deleted, out of `total`", examples=[3])
    total: int = Field(default=0, description="the number of covered images; 0 before it is known", examples=[3])
    waits_for: str | None = Field(
        default=None,
        description="why it waits, in a sentence; null where it does not",
        examples=["the mirror does not answer"],
    )
    images: int = Field(
        default=0, description="the number of removed images; counted when all are deleted", examples=[3]
    )
    by_state: dict[State, int] = Field(
        default_factory=dict, description="the number of removed images by former state", examples=[{"remembered": 3}]
    )
    pictures: int = Field(
        default=0, description="the number of these with a picture; each is deleted with its thumbnail", examples=[3]
    )
    queued: int = Field(
        default=0,
        description="the number of removed intake entries, waiting or dead letters, none of which was accepted as an "
        "image",
        examples=[0],
    )
    verified_at: AwareDatetime | None = Field(
        default=None,
        description="when it was verified that no image that meets the filter and was accepted before is left",
        examples=["2026-05-03T10:15:01Z"],
    )
    receipt: str | None = Field(
        default=None,
        description="the signed receipt, once it is done; keep the text byte for byte",
        examples=['{"payload":"eyJhdC...","protected":"eyJhbG...","signature":"mV2nXw..."}'],
    )
    erasure: Erasure | None = Field(default=None, description="the first compaction after it; null until then")
    erasure_receipt: str | None = Field(
        default=None,
        description="the signed receipt of the erasure; null until then",
        examples=['{"payload":"eyJhdC...","protected":"eyJhbG...","signature":"kP0cRs..."}'],
    )
