"""A removal: the request to forget, and its record, which ends as the receipt."""

import re
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.filter import Filter
from schemas.image import State
from schemas.text_rules import Text


class RemovalRequest(BaseModel):
    """What to forget and why.

    Attributes:
        filter: every image that meets it is removed; never empty.
        everything: said instead of a filter to remove all images of the tenant.
        reason: for the record, 1 to 200 characters; it names nothing that the filter does.
        dry_run: only count and show what would go.
        block: refuse, from now on, the same contents and the subjects that the filter names.
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


class Event(StrEnum):
    """What the removal log says happened to a removal."""

    REQUESTED = "requested"
    DONE = "done"
    ERASED = "erased"


class Seal(BaseModel):
    """An entry of a tenant's removal log, which is a chain: each entry holds the digest of the one before.

    Attributes:
        number: its place in the log, from 1.
        digest: SHA-256, in hex, of what was asked (``requested``) or of the receipt without its seal (the others), as
            JSON with sorted keys and no blanks, in UTF-8.
        previous: SHA-256 of the entry before in the same form, signature included; 64 zeros for the first.
        key: the public key, Ed25519 (RFC 8032), in base64.
        signature: of this entry in the same form without its signature, in base64.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    tenant: str
    removal: str
    event: Event
    at: datetime
    digest: str
    previous: str
    key: str
    signature: str = ""


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
    """The record of a removal; once ``done``, its receipt.

    Attributes:
        requested_by: who asked, as the API knows them.
        images: how many images it removed, in all and by the state they were in.
        pictures: how many pictures were deleted from the blob store (thumbnails are never stored).
        verified_at: when it was checked that nothing that meets the filter and was accepted before is left.
        erasure: the first compaction after it; None until there was one.
        seal: the latest entry of the removal log that speaks of it, signed.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    filter: Filter
    everything: bool
    reason: str
    block: bool
    requested_by: str
    requested_at: datetime
    status: RemovalStatus = RemovalStatus.RUNNING
    images: int = 0
    by_state: dict[State, int] = Field(default_factory=dict)
    pictures: int = 0
    verified_at: datetime | None = None
    erasure: Erasure | None = None
    seal: Seal | None = None
