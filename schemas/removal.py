"""A removal: its request, its preview, and its record."""

import re
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.text_rules import Text


class RemovalRequest(BaseModel):
    """What to remove and why.

    Attributes:
        filter: every image that meets it is removed; not empty.
        everything: instead of a filter: remove all images of the tenant.
        reason: for the record, 1 to 200 characters; it must not contain a value of the filter.
        dry_run: only count and list the images.
        block: add the removed contents, and the subjects of the filter, to the blocklist.
        erase_now: erase the bytes from the disk at once, instead of within the service's usual time.
    """

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

    filter: Filter = Filter({})
    everything: bool = False
    reason: Text
    dry_run: bool = False
    block: bool = False
    erase_now: bool = False

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


class RemovalPreview(BaseModel):
    """The images that a removal would cover: their number, by state, and the ids of some."""

    images: int
    by_state: dict[State, int]
    sample: list[str]


class RemovalStatus(StrEnum):
    """The status of a removal; ``done`` after it was verified that nothing that it covers is left."""

    RUNNING = "running"
    DONE = "done"


class Erasure(BaseModel):
    """The effect of a compaction after the removal on the bytes on the disk.

    Attributes:
        erased: whether the bytes of points and pictures are erased from the store's files.
        note: what the store was requested to do instead, and what its operator must do.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    erased: bool
    note: str = ""


class Removal(BaseModel):
    """The record of a removal.

    Attributes:
        filter: of the request; null once the removal is done, because nothing that identifies removed images is kept.
        requested_by: the name of the key, and its id.
        erase_now: whether its bytes are erased from the disk at once, and not together with those of other removals.
        waits_for: why it waits, in a sentence; null where it does not.
        images: the number of removed images; `by_state` has it by their former state; counted when all are deleted.
        pictures: the number of these with a picture (each is deleted with its thumbnail).
        queued: the number of removed intake entries, waiting or dead letters, none of which was accepted as an image.
        verified_at: when it was verified that no image that meets the filter and was accepted before is left.
        receipt: the signed receipt, once it is done; keep the text byte for byte.
        erasure: the first compaction after it; null until then.
        erasure_receipt: the signed receipt of the erasure.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    filter: Filter | None
    everything: bool
    reason: str
    block: bool
    requested_by: str
    requested_at: datetime
    erase_now: bool = False
    status: RemovalStatus = RemovalStatus.RUNNING
    waits_for: str | None = None
    images: int = 0
    by_state: dict[State, int] = Field(default_factory=dict)
    pictures: int = 0
    queued: int = 0
    verified_at: datetime | None = None
    receipt: str | None = None
    erasure: Erasure | None = None
    erasure_receipt: str | None = None
