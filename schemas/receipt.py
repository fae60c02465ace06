"""What a receipt says, and every other entry of the log of receipts: version 2, made once and never changed.

These classes only make entries. Whoever reads one reads the bytes that were signed, so a field that comes to a class
later touches no receipt that was given before.
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
    """What an entry of the log says happened."""

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
"""What an entry is, by what it says happened."""

RECEIPTS = frozenset({Event.DONE, Event.ERASED, Event.TENANT_END})
"""The entries that are handed out as receipts."""


class Requester(BaseModel):
    """Who asked.

    Attributes:
        name: of the key, or ``command line`` and the like where no key was used.
        key: the key's id.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    key: str | None = None


class Payload(BaseModel):
    """What an entry says of its event; the log adds version, type, tenant, removal, moment, number and the chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: ClassVar[Event]


class RequestedPayload(Payload):
    """A removal was asked for.

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
        images: how many images it removed, in all and by the state they were in.
        pictures: how many of them had a picture.
        queued: how many entries it took that waited in the intake, or were dead letters there.
    """

    event = Event.DONE

    done_at: datetime
    images: int
    by_state: dict[State, int]
    pictures: int
    queued: int = 0


class Claim(BaseModel):
    """What an erasure covers, a sentence each; what is said to be an operator's is not covered."""

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
    """All that was kept of a tenant is removed: its one receipt.

    Attributes:
        queued: how many entries waited in the intake, or were dead letters there.
        keys: how many keys were revoked and deleted.
        records: how many records were deleted, by their kind.
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
        backup_at: when it was begun.
        left_out: images that stayed away because they were removed.
        without_later_removals: the operator said to restore without the mirror that tells what was removed since.
    """

    event = Event.RESTORED

    backup: Digest
    backup_at: datetime
    restored_at: datetime
    left_out: int
    without_later_removals: bool


class PublicKey(BaseModel):
    """The public key that receipts are checked with: a JSON Web Key (RFC 7517, RFC 8037), and its plain form.

    Attributes:
        x: the 32 bytes in base64url.
        kid: the key's thumbprint (RFC 7638), as receipts name it.
        base64: the 32 bytes in plain base64, as receipts of version 1 name it.
    """

    model_config = ConfigDict(frozen=True)

    kty: str = "OKP"
    crv: str = "Ed25519"
    x: str
    kid: str
    alg: str = "EdDSA"
    use: str = "sig"
    base64: str


class FilterCheck(BaseModel):
    """Whether a receipt is of a filter that somebody presents."""

    matches: bool
