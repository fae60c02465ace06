"""An image: the fields that callers send, its state, and its stored form."""

import secrets
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.errors import PreconditionFailed
from visual_memory.schemas.labels import FormerLabels
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.text_rules import FileName, ImageId, Labels, Metadata, StoredValue, Text

MAX_HISTORY = 16
REVISION_BITS = 32
NAMESPACE = uuid.UUID("6c1f3a52-9d0e-5b7a-8f43-2b64d1c0e9aa")
VERSION_LENGTH = 16
"""Hex digits of a content hash that identify the version of a thumbnail."""
NO_PICTURE = "vector."
"""Prefix of the keys of images that came as vectors; keys of pictures contain a folder."""


def point_id(tenant: str, image_id: str) -> str:
    """The id of an image's point: constant, and different for every tenant."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant}/{image_id}"))


def has_picture(key: str) -> bool:
    """Whether an image with this key came as a picture."""
    return not key.startswith(NO_PICTURE)


class State(OpenEnum):
    """The state of an image; only ``remembered`` ones vote."""

    WAITING = "waiting"
    REMEMBERED = "remembered"
    REJECTED = "rejected"
    MUTED = "muted"


class Doubt(OpenEnum):
    """What the service did to an image because of other images' votes; a removal of those undoes it.

    ``warned``: `reason` says that its neighbours vote for another label; ``held``: it is muted for that; ``pruned``: it
    is muted for its wrong votes.
    """

    WARNED = "warned"
    HELD = "held"
    PRUNED = "pruned"


class ImageFields(BaseModel):
    """The fields of an image that is sent.

    Where the image exists already, fields that are left out keep their values, even if the picture changes; null clears
    a field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Labels = Field(
        description="1 to 32 labels of at most 200 characters; a label may be a path, `animal/cat/siamese`",
        examples=[["cat"]],
    )
    image_id: ImageId | None = Field(
        default=None,
        description="the caller's own id; by default the SHA-256 of the picture's bytes, or of the vector's, in hex",
        examples=["cat-17"],
    )
    file_name: FileName | None = Field(
        default=None, description="the name of its file, without folders", examples=["cat.jpg"]
    )
    source: Text | None = Field(
        default=None, description="where it came from (a camera, a supplier)", examples=["camera-1"]
    )
    subject: Text | None = Field(
        default=None, description="whom or what it shows; removal requests can name it", examples=["person-4711"]
    )
    captured_at: Moment | None = Field(
        default=None, description="when the picture was taken, with a time zone", examples=["2026-01-30T08:15:00Z"]
    )
    expires_at: Moment | None = Field(
        default=None,
        description="when the image is removed, with a time zone; a retention rule of the service may make it earlier",
        examples=["2027-01-31T00:00:00Z"],
    )
    metadata: Metadata = Field(
        default_factory=dict,
        description="further fields: text, numbers or booleans by name; filters can use the declared ones",
        examples=[{"site": "north"}],
    )

    def of_file(self, name: str | None) -> "ImageFields":
        """The same fields with the name of the sent file, where no file name is given."""
        if name is None or "file_name" in self.model_fields_set:
            return self
        return ImageFields.model_construct({*self.model_fields_set}, **{**dict(self), "file_name": name})


class ImagePatch(BaseModel):
    """Changes to an image's labels and fields: those left out stay; null clears (labels cannot be cleared)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Labels = Field(default_factory=list, description="the new labels", examples=[["cat"]])
    file_name: FileName | None = Field(
        default=None, description="the name of its file, without folders", examples=["cat.jpg"]
    )
    source: Text | None = Field(
        default=None, description="where it came from, such as a camera or a supplier", examples=["camera-1"]
    )
    subject: Text | None = Field(default=None, description="whom or what it shows", examples=["person-4711"])
    captured_at: Moment | None = Field(
        default=None, description="when the picture was taken", examples=["2026-01-30T08:15:00Z"]
    )
    expires_at: Moment | None = Field(
        default=None,
        description="when the image is removed; an earlier moment than before needs the scope `remove`",
        examples=["2027-01-31T00:00:00Z"],
    )
    metadata: Metadata = Field(
        default_factory=dict, description="further fields by name; replaces all of them", examples=[{"site": "north"}]
    )


class Image(BaseModel):
    """An accepted image as callers see it."""

    model_config = ConfigDict(frozen=True)

    image_id: str = Field(description="the image's id", examples=["cat-17"])
    labels: list[str] = Field(description="the image's labels", examples=[["cat"]])
    state: State = Field(description="the image's state", examples=["remembered"])
    reason: str | None = Field(
        default=None, description="why it was rejected, or why its label is in doubt; else null", examples=[None]
    )
    doubt: Doubt | None = Field(
        default=None, description="what the service did to it by itself; else null", examples=["warned"]
    )
    attempts: int = Field(
        default=0, description="how often a worker began to remember it and did not finish", examples=[0]
    )
    file_name: str | None = Field(
        default=None, description="the name of its file, without folders", examples=["cat.jpg"]
    )
    source: str | None = Field(
        default=None, description="where it came from, such as a camera or a supplier", examples=["camera-1"]
    )
    subject: str | None = Field(default=None, description="whom or what it shows", examples=["person-4711"])
    captured_at: datetime | None = Field(
        default=None, description="when the picture was taken", examples=["2026-01-30T08:15:00Z"]
    )
    accepted_at: datetime = Field(description="when it was accepted", examples=["2026-01-31T12:00:00Z"])
    expires_at: datetime | None = Field(
        default=None, description="when the image is removed", examples=["2027-01-31T00:00:00Z"]
    )
    metadata: dict[str, StoredValue] = Field(
        default_factory=dict, description="further fields by name", examples=[{"site": "north"}]
    )
    content_hash: str = Field(
        description=(
            "SHA-256 of the picture's bytes, 64 hex digits; of an image that was sent as a vector, of the "
            "vector in float32, little-endian"
        ),
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    encoder: str | None = Field(
        default=None,
        description=(
            "the name of the encoder that made the vector with which it was remembered; null until "
            "remembered. It may have vectors of further encoders."
        ),
        examples=["efficientnet-lite0"],
    )
    revision: int = Field(
        default=0,
        description="grows with every change of its labels and fields, see `next_revision`; 0 before the first",
        examples=[2],
    )
    thumbnail_url: str | None = Field(
        default=None,
        description="path of its thumbnail in the service, which changes with the picture; null for an image that came"
        " as a vector",
        examples=["/v1/images/cat-1/thumbnail?v=9f86d081884c7d65"],
    )

    @property
    def etag(self) -> str:
        """Identifies this version of the image, for HTTP's ``ETag`` and ``If-Match``."""
        return f'"{self.revision}-{self.accepted_at.astimezone(UTC):%Y%m%dT%H%M%S%f}"'

    def check_etag(self, expected: Collection[str] | None) -> None:
        """Refuse a change to another version of the image than the sender has seen.

        Args:
            expected: ETags of which the image must have one; None: any.

        Raises:
            PreconditionFailed: the image has none of them.
        """
        if expected is not None and self.etag not in expected:
            raise PreconditionFailed(
                f"image {self.image_id!r} was changed since: read it again, and send the change with its ETag"
            )


class NotEncoded(BaseModel):
    """An encoder that cannot encode a picture, and the reason in a sentence."""

    model_config = ConfigDict(frozen=True)

    encoder: str
    reason: str


class StoredImage(Image):
    """An image as the memory stores it.

    Attributes:
        tenant: whose it is.
        picture: the key of its picture in the blob store, if it has one; new for each accepted content, so that an
            operation conditional on the key cannot affect later content.
        begun_at: when a worker last began to remember it; starts that worker's lease.
        lease: the lease's token, drawn for each slice of a worker.
        history: its former labels since this picture was accepted, the earliest first; the last `MAX_HISTORY` of them.
        known_since: the start of the history, where older labels were dropped from it; else null.
        objectors: ids of the neighbours whose votes are the reason of its doubt.
        pruned_from: the number of wrong votes from which on images were muted, where it was muted for them.
        not_encoded: further encoders that cannot encode its picture.
        removal: the id of the removal that has marked it: until its deletion it does not vote and cannot be changed.
        vector_digests: of an image that is sent as a vector, see `services.memory.points.vector_digests`; not stored.
        thumbnail_url: not stored: `thumbnail_url` makes it for an answer.
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
    thumbnail_url: None = Field(default=None, exclude=True)

    def votes_at(self, moment: datetime) -> bool:
        """Whether it votes at a moment, if it has a vector of the encoder."""
        return self.state is State.REMEMBERED and self.removal is None and not self.has_expired(moment)

    def has_expired(self, moment: datetime) -> bool:
        """Whether its `expires_at` is reached; then it does not vote."""
        return self.expires_at is not None and self.expires_at <= moment

    def changed(self, changes: Mapping[str, Any], moment: datetime) -> "StoredImage":
        """The image with changed fields; its former labels are added to the history."""
        changed = self.model_copy(update=dict(changes))
        if changed.labels == self.labels:
            return changed
        history = [*self.history, FormerLabels(labels=self.labels, until=moment)]
        dropped, history = history[:-MAX_HISTORY], history[-MAX_HISTORY:]
        since = dropped[-1].until if dropped else self.known_since
        return changed.model_copy(update={"history": history, "known_since": since})


def thumbnail_version(image: StoredImage) -> str:
    """Identifies the picture of an image among all that are stored under its id."""
    return image.content_hash[:VERSION_LENGTH]


def thumbnail_url(image: StoredImage) -> str | None:
    """The path of an image's thumbnail in the API; None if it came as a vector."""
    if not has_picture(image.picture):
        return None
    return f"/v1/images/{image.image_id}/thumbnail?v={thumbnail_version(image)}"


def next_revision(revision: int) -> int:
    """A greater revision. Its last 32 bits are random, so that concurrent changes have different revisions."""
    return ((revision >> REVISION_BITS) + 1 << REVISION_BITS) + secrets.randbits(REVISION_BITS)


class Accepted(BaseModel):
    """A sent image; the answer has one for each, in the order of the request."""

    image_id: str = Field(description="the image's id", examples=["line-3/0017"])
    state: State = Field(
        description="its state: `waiting` for new content; existing content keeps its state", examples=["waiting"]
    )
    other_labels: bool = Field(
        default=False,
        description="whether the image exists with other labels, which are kept, as requested",
        examples=[False],
    )
