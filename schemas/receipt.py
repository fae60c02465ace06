"""The payloads of receipts and of all other entries of the receipt log, version 2.

These classes only create entries. Readers verify the signed bytes, so adding a field to a class does not affect earlier
receipts.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.image import State

VERSION = 2

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, in hex."""


class Event(StrEnum):
    """The event that an entry of the log records."""

    REQUESTED = "requested"
    DONE = "done"
    ERASED = "erased"
    TENANT_END = "tenant_end"
    RESTORED = "restored"


TYPES = {
    Event.REQUESTED: "request",
    Event.DONE: "removal",
    Event.ERASED: "erasure",
    Event.TENANT_END: "tenant_end",
    Event.RESTORED: "restore",
}
"""The type of an entry, by its event."""

RECEIPTS = frozenset({Event.DONE, Event.ERASED, Event.TENANT_END})
"""The events whose entries are receipts."""


class Requester(BaseModel):
    """Who requested a removal."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(
        description="of the key, or `command line` and the like where no key was used", examples=["steward"]
    )
    key: str | None = Field(default=None, description="the key's id", examples=["9f86d081884c"])


class Payload(BaseModel):
    """The fields of an entry's event; the log adds version, type, tenant, removal, time, number and the chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: ClassVar[Event]


class RequestedPayload(Payload):
    """A removal was requested.

    Attributes:
        filter_digest: see `services.receipts.filter_digest`.
    """

    event = Event.REQUESTED

    requested_at: datetime
    requested_by: Requester
    reason: str
    block: bool
    everything: bool
    filter_digest: Digest


class RemovalPayload(RequestedPayload):
    """A removal is done: the receipt.

    Attributes:
        done_at: when it was verified that nothing that it covers is left.
        images: the number of removed images; `by_state` has it by their former state.
        pictures: the number of these with a picture.
        queued: the number of removed intake entries, waiting or dead letters.
    """

    event = Event.DONE

    done_at: datetime
    images: int
    by_state: dict[State, int]
    pictures: int
    queued: int = 0


class Claim(BaseModel):
    """What an erasure covers, in a sentence each; tasks of the operator are named and not covered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    pictures: str
    records: str
    intake: str = ""
    copies: str


class ErasurePayload(Payload):
    """The bytes of a removal were erased: the second receipt.

    Attributes:
        receipt: digest of the removal's receipt.
        erased: whether the bytes of points and pictures are gone from the files of this service's own machine.
    """

    event = Event.ERASED

    receipt: Digest
    erased_at: datetime
    erased: bool
    claim: Claim


class TenantEndPayload(Payload):
    """A tenant was removed with all its data: its only receipt.

    Attributes:
        queued: the number of removed intake entries, waiting or dead letters.
        keys: the number of keys that were revoked and deleted.
        records: the number of deleted records, by kind.
    """

    event = Event.TENANT_END

    requested_at: datetime
    requested_by: Requester
    reason: str
    done_at: datetime
    images: int
    by_state: dict[State, int]
    pictures: int
    queued: int = 0
    keys: int
    records: dict[str, int]


class RestoredPayload(Payload):
    """A backup was restored.

    Attributes:
        backup: digest of its signed manifest.
        backup_at: when the backup began.
        left_out: the number of images that were not restored because they had been removed.
        without_later_removals: whether the operator restored without the mirror, which lists later removals.
    """

    event = Event.RESTORED

    backup: Digest
    backup_at: datetime
    restored_at: datetime
    left_out: int
    without_later_removals: bool


class PublicKey(BaseModel):
    """The public key to verify receipts: a JSON Web Key (RFC 7517, RFC 8037), and its plain form."""

    model_config = ConfigDict(frozen=True)

    kty: str = Field(default="OKP", description="the type of the key (RFC 8037)", examples=["OKP"])
    crv: str = Field(default="Ed25519", description="the curve", examples=["Ed25519"])
    x: str = Field(description="the 32 bytes in base64url", examples=["lGf3p0yA0w6C0yB2v2QqAe1tB8v2T1m0nG9S3x4KQvE"])
    kid: str = Field(description="the key's thumbprint (RFC 7638), as in receipts", examples=["2Fj0"])
    alg: str = Field(default="EdDSA", description="the algorithm of the signatures", examples=["Ed25519"])
    use: str = Field(default="sig", description="what the key is for: signatures", examples=["sig"])
    base64: str = Field(
        description="the 32 bytes in plain base64, as in receipts of version 1",
        examples=["lGf3p0yA0w6C0yB2v2QqAe1tB8v2T1m0nG9S3x4KQvE="],
    )


class FilterCheck(BaseModel):
    """Whether a receipt is for a given filter."""

    matches: bool = Field(description="whether the receipt is of this filter", examples=[True])
