"""A removal: the request to forget, and its record, which ends as the receipt."""

import re
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.text_rules import Text


class RemovalRequest(BaseModel):
    """What to forget and why.

    Attributes:
        filter: every image that meets it is removed; never empty.
        everything: said instead of a filter to remove all images of the tenant.
        reason: for the record, 1 to 200 characters; it names nothing that the filter does.
        dry_run: only count and show what would go.
        block: refuse, from now on, the same contents and the subjects that the filter names.
        erase_now: erase the bytes from the disk at once, and not within the time that the service takes for it.
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
    def _says_what(self) -> "RemovalRequest":
        if bool(self.filter) == self.everything:
            raise ValueError("give a filter with at least one condition, or everything: true; one of the two")
        return self

    @model_validator(mode="after")
    def _reason_names_nobody(self) -> "RemovalRequest":
        """The reason outlives what is removed: it stands in the receipt."""
        reason = self.reason.casefold()
        for value in self.filter.named():
            if re.search(rf"(?<!\w){re.escape(value.casefold())}(?!\w)", reason):
                raise ValueError(
                    "reason: it holds a value of the filter, and is kept when that is forgotten: name nobody in it"
                )
        return self


class RemovalPreview(BaseModel):
    """What a removal would cover: counts by state, and the ids of some of the images."""

    images: int
    by_state: dict[State, int]
    sample: list[str]


class RemovalStatus(StrEnum):
    """How far a removal is; ``done`` only after it was verified that nothing it covered is left."""

    RUNNING = "running"
    DONE = "done"


class Erasure(BaseModel):
    """What a compaction after the removal did to the bytes on the disk.

    Attributes:
        erased: whether the bytes of points and pictures are gone from the store's files.
        note: what was asked of the store instead, and what is its operator's to do.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    erased: bool
    note: str = ""


class Removal(BaseModel):
    """The record of a removal.

    Attributes:
        filter: what was asked for; null once it is done, for nothing that names what was removed is kept.
        requested_by: who asked: the name of the key, and its id.
        erase_now: whether its bytes are erased from the disk at once, and not with those of others.
        waits_for: why it does not go on at the moment, a sentence; null where it does.
        images: how many images it removed, in all and by the state they were in; counted once all are gone.
        pictures: how many of them had a picture (thumbnails are never stored).
        queued: how many entries it took that waited in the intake, or were dead letters: of none of them was an image
            accepted.
        verified_at: when it was checked that nothing that meets the filter and was accepted before is left.
        receipt: its signed receipt, once it is done: keep the text as it is, byte for byte.
        erasure: the first compaction after it; null until there was one.
        erasure_receipt: the signed receipt of that.
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
