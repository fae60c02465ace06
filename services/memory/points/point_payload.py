"""An image as a point: its id and its payload, and back.

A payload holds the fields of `StoredImage`, without those that are None or empty: ``removal`` is there while a removal
has marked the image, ``revision`` from the first amendment on. And it holds ``label_paths``, every prefix of every
label, which filters by label compare; ``vector_only``, true where the image came as a vector; and ``changed_at``, when
its state or labels were written last.
"""

import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.labels import FormerLabels, label_paths, labels_at
from visual_memory.services.vector_engines.engine_contract import Payload, Point

Held = TypeVar("Held")
NAMESPACE = uuid.UUID("6c1f3a52-9d0e-5b7a-8f43-2b64d1c0e9aa")
NO_PICTURE = "vector."
"""What the key of an image begins with that came as a vector; those of pictures hold a folder."""
AMENDABLE = ("labels", "file_name", "source", "subject", "captured_at", "expires_at", "metadata")


VECTOR_ONLY = MappingProxyType({"vector_only": True})
"""That an image came as a vector, as a payload to set."""


def point_id(tenant: str, image_id: str) -> str:
    """The id of an image's point: the same for ever, and different for every tenant."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant}/{image_id}"))


def has_picture(key: str) -> bool:
    """Whether an image with this key came as a picture."""
    return not key.startswith(NO_PICTURE)


def to_point(image: StoredImage) -> Point:
    """The point of an image, without a vector; one that came as a vector is marked as such, so that it is counted."""
    payload = {field: value for field, value in _fields(image).items() if value is not None}
    if not has_picture(image.picture):
        payload |= VECTOR_ONLY
    return Point(point_id(image.tenant, image.image_id), payload)


def marked(point: Point) -> Point:
    """A point that an earlier version may have made, as `to_point` makes it."""
    return point if has_picture(point.payload["picture"]) else replace(point, payload=point.payload | VECTOR_ONLY)


def amendment(image: StoredImage, fields: Iterable[str] = AMENDABLE) -> Payload:
    """What callers may change, or some of it, and what follows from it: a payload to set, where None clears a field."""
    held = _fields(image)
    return {field: held[field] for field in (*fields, "label_paths", "history", "known_since")}


def to_image(payload: Payload) -> StoredImage:
    """The image of a payload as a point holds it."""
    return StoredImage.model_validate(payload)


def to_labels(labels: Sequence[str], history: Sequence[Payload] | None, moment: datetime | None) -> tuple[str, ...]:
    """Labels and their history as a point holds them: as they are now or were at a moment; see `FormerLabels`."""
    if moment is None:
        return tuple(labels)
    return tuple(labels_at(labels, [FormerLabels.model_validate(each) for each in history or ()], moment))


def grouped_by(images: Iterable[Held], trait: Callable[[Held], Hashable]) -> Iterator[tuple[Held, list[Held]]]:
    """Images that have a trait in common, so that one operation serves them: one, and all."""
    groups: dict[Hashable, list[Held]] = {}
    for image in images:
        groups.setdefault(trait(image), []).append(image)
    for group in groups.values():
        yield group[0], group


def _fields(image: StoredImage) -> Payload:
    return {
        **image.model_dump(),
        "state": image.state.value,
        "doubt": None if image.doubt is None else image.doubt.value,
        "captured_at": _utc(image.captured_at),
        "accepted_at": _utc(image.accepted_at),
        "expires_at": _utc(image.expires_at),
        "begun_at": _utc(image.begun_at),
        "metadata": image.metadata or None,
        "history": [{"labels": each.labels, "until": _utc(each.until)} for each in image.history] or None,
        "known_since": _utc(image.known_since),
        "objectors": image.objectors or None,
        "not_encoded": [each.model_dump() for each in image.not_encoded] or None,
        "label_paths": label_paths(image.labels),
        "revision": image.revision or None,
    }


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
