"""An image: what a caller says of a picture, and what the memory knows of it."""

import secrets
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.errors import PreconditionFailed
from visual_memory.schemas.labels import FormerLabels
from visual_memory.schemas.text_rules import FileName, ImageId, Labels, Metadata, Moment, StoredValue, Text

MAX_HISTORY = 16
REVISION_BITS = 32
NAMESPACE = uuid.UUID("6c1f3a52-9d0e-5b7a-8f43-2b64d1c0e9aa")
NO_PICTURE = "vector."
"""Prefix of the keys of images that came as vectors; keys of pictures contain a folder."""


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def point_id(tenant: str, image_id: str) -> str:
    """The id of an image's point: constant, and different for every tenant."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant}/{image_id}"))


def has_picture(key: str) -> bool:
    """Whether an image with this key came as a picture."""
    return not key.startswith(NO_PICTURE)


class State(StrEnum):
    """Where an image stands on its way; only ``remembered`` ones vote."""

    WAITING = "waiting"
    REMEMBERED = "remembered"
    REJECTED = "rejected"
    MUTED = "muted"


class Doubt(StrEnum):
    """What the service itself did to an image because of how others vote; a removal takes it back.

    ``warned``: `reason` says that its neighbours disagree with its label; ``held``: it is muted for that; ``pruned``:
    it is muted for the wrong votes that it gave.
    """

    WARNED = "warned"
    HELD = "held"
    PRUNED = "pruned"


class ImageFields(BaseModel):
    """What a caller says of a picture when sending it.

    Of an image that is there, whatever is left out stays as it is, also where the picture is another; null clears.

    Attributes:
        labels: 1 to 32 labels of at most 200 characters; a label may be a path, ``animal/cat/siamese``.
        image_id: the caller's own name for it; left out, the SHA-256 of the picture's bytes in hex, or of its vector's.
        file_name: what its file is called, without folders.
        source: where it came from (a camera, a supplier).
        subject: whom or what it shows, the handle for removal requests.
        captured_at: when it was taken, with a time zone.
        expires_at: when it is to be forgotten by itself, with a time zone; a rule of the service's may make it earlier.
        metadata: further fields, name to text, number or truth value; the declared ones can be filtered by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Labels
    image_id: ImageId | None = None
    file_name: FileName | None = None
    source: Text | None = None
    subject: Text | None = None
    captured_at: Moment | None = None
    expires_at: Moment | None = None
    metadata: Metadata = Field(default_factory=dict)

    def of_file(self, name: str | None) -> "ImageFields":
        """The same of a file that is called so, which counts where nobody says what it is called, nor did before."""
        if name is None or "file_name" in self.model_fields_set:
            return self
        return ImageFields.model_construct({*self.model_fields_set}, **{**dict(self), "file_name": name})


class ImagePatch(BaseModel):
    """Changes to an image's labels and fields: what is left out stays; null clears (labels cannot be cleared)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Labels = Field(default_factory=list)
    file_name: FileName | None = None
    source: Text | None = None
    subject: Text | None = None
    captured_at: Moment | None = None
    expires_at: Moment | None = None
    metadata: Metadata = Field(default_factory=dict)


class Image(BaseModel):
    """An accepted image as callers see it.

    Attributes:
        content_hash: SHA-256 of the picture's bytes, 64 hex digits; of an image that came as a vector, of its vector as
            it was sent, in float32, little-endian.
        reason: why it was rejected, or what its neighbours have against its label; else null.
        doubt: whether the service warns of it or has muted it by itself, else null.
        attempts: how often remembering was begun and did not end.
        encoder: the name of the encoder with which it was remembered, or that made its vector where it came as one;
            null until remembered. It may have vectors of further encoders since.
        revision: grows with every change of its labels and fields, see `next_revision`; 0 where there was none.
    """

    model_config = ConfigDict(frozen=True)

    image_id: str
    labels: list[str]
    state: State
    reason: str | None = None
    doubt: Doubt | None = None
    attempts: int = 0
    file_name: str | None = None
    source: str | None = None
    subject: str | None = None
    captured_at: datetime | None = None
    accepted_at: datetime
    expires_at: datetime | None = None
    metadata: dict[str, StoredValue] = Field(default_factory=dict)
    content_hash: str
    encoder: str | None = None
    revision: int = 0

    @property
    def etag(self) -> str:
        """Which labels and fields of which picture these are, as HTTP's ``ETag`` and ``If-Match`` name it."""
        return f'"{self.revision}-{self.accepted_at.astimezone(UTC):%Y%m%dT%H%M%S%f}"'

    def check_etag(self, expected: Collection[str] | None) -> None:
        """Refuse a change to another image than its sender has seen.

        Args:
            expected: ETags of which the image must have one; None: any will do.

        Raises:
            PreconditionFailed: it has none of them.
        """
        if expected is not None and self.etag not in expected:
            raise PreconditionFailed(
                f"image {self.image_id!r} was changed since: read it again, and send the change with its ETag"
            )


class NotEncoded(BaseModel):
    """That an encoder cannot encode a picture, and why: a sentence."""

    model_config = ConfigDict(frozen=True)

    encoder: str
    reason: str


class StoredImage(Image):
    """An image as the memory holds it.

    Attributes:
        tenant: whose it is.
        picture: the key of its picture in the blob store, if it has one; new with each acceptance of new content, so
            that an operation conditional on it can never touch what came later.
        begun_at: when a worker last began to remember it; it is that worker's for a while.
        lease: which slice of which worker it was begun with; drawn anew for each.
        history: its former labels since this picture was accepted, the earliest first; the last `MAX_HISTORY` of them.
        known_since: from when on its labels are known, where they were changed more often than that; else null.
        objectors: ids of the neighbours whose votes made the service warn of it or hold it.
        pruned_from: how many wrong votes were enough to mute it, where it was muted for them.
        not_encoded: of which further encoders it is to get no vector, though it has a picture.
        removal: the id of the removal that has marked it: it votes no more and nothing of it is changed, until it goes.
        vector_digests: of one that is sent as a vector, see `services.memory.points.vector_digests`; they are not kept.
    """

    tenant: str
    picture: str
    begun_at: datetime | None = None
    lease: str | None = None
    history: list[FormerLabels] = Field(default_factory=list)
    known_since: datetime | None = None
    objectors: list[str] = Field(default_factory=list)
    pruned_from: int | None = None
    not_encoded: list[NotEncoded] = Field(default_factory=list)
    removal: str | None = None
    vector_digests: list[str] = Field(default_factory=list, exclude=True)

    def votes_at(self, moment: datetime) -> bool:
        """Whether it votes at a moment, if it has the vector that is asked for."""
        return self.state is State.REMEMBERED and self.removal is None and not self.has_expired(moment)

    def has_expired(self, moment: datetime) -> bool:
        """Whether it was to be kept until then at most, and so votes no more."""
        return self.expires_at is not None and self.expires_at <= moment

    def changed(self, changes: Mapping[str, Any], moment: datetime) -> "StoredImage":
        """The image with other fields from a moment on; labels that it loses by that become history."""
        changed = self.model_copy(update=dict(changes))
        if changed.labels == self.labels:
            return changed
        history = [*self.history, FormerLabels(labels=self.labels, until=moment)]
        dropped, kept = history[:-MAX_HISTORY], history[-MAX_HISTORY:]
        since = dropped[-1].until if dropped else self.known_since
        return changed.model_copy(update={"history": kept, "known_since": since})


def next_revision(revision: int) -> int:
    """A greater revision. Its last 32 bits are random: of several who amended the same, each knows its own by it."""
    return ((revision >> REVISION_BITS) + 1 << REVISION_BITS) + secrets.randbits(REVISION_BITS)


class ImagePage(BaseModel):
    """One page of a listing; ``cursor`` asks for the next and is null on the last."""

    images: list[Image]
    cursor: str | None = None


class Accepted(BaseModel):
    """The answer to images sent: one entry for each, in the order they came.

    ``state`` is ``waiting`` for new content; content that was already there keeps its state.

    Attributes:
        other_labels: whether it is there with other labels, which stay, as was asked.
    """

    image_id: str
    state: State
    other_labels: bool = False
