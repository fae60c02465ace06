"""Convert images to points with payloads, and back.

A payload has the fields of `StoredImage` that are not None or empty: ``removal`` while a removal has marked the image,
``revision`` from the first amendment on. It also has ``label_paths``, every prefix of every label, for filters by
label; ``vector_only``, true if the image came as a vector; and ``changed_at``, when its state or labels were last
written.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from visual_memory.schemas.image import StoredImage, has_picture, point_id
from visual_memory.schemas.labels import FormerLabels, label_paths, labels_at
from visual_memory.services.vector_engines.engine_contract import Payload, Point

Item = TypeVar("Item")
AMENDABLE = ("labels", "file_name", "source", "subject", "captured_at", "expires_at", "metadata")
DERIVED = ("label_paths", "history", "known_since")
"""What follows from the labels."""
STANDING = ("state", "doubt", "pruned_from", "reason", "objectors")
"""Whether an image votes, and what the service found against that."""

VECTOR_ONLY = MappingProxyType({"vector_only": True})
"""The image came as a vector, as a payload to set."""


def to_point(image: StoredImage) -> Point:
    """The point of an image, without a vector; ``vector_only`` is set if the image came as a vector."""
    payload = {field: value for field, value in _fields(image).items() if value is not None}
    if not has_picture(image.picture):
        payload |= VECTOR_ONLY
    return Point(point_id(image.tenant, image.image_id), payload)


def flag_vector_only(point: Point) -> Point:
    """Complete a point that an earlier version made, to what `to_point` makes."""
    return point if has_picture(point.payload["picture"]) else replace(point, payload=point.payload | VECTOR_ONLY)


def fields_to_set(image: StoredImage, fields: Iterable[str]) -> Payload:
    """Some fields as a payload to set, and those derived from labels; None clears a field.

    Args:
        image: with the new values.
        fields: of `AMENDABLE` and `STANDING`.
    """
    values, named = _fields(image), [*fields]
    return {field: values[field] for field in (*named, *(DERIVED if "labels" in named else ()))}


def to_image(payload: Payload) -> StoredImage:
    """The image that a payload describes."""
    return StoredImage.model_validate(payload)


def to_labels(labels: Sequence[str], history: Sequence[Payload] | None, moment: datetime | None) -> tuple[str, ...]:
    """The labels at a moment, from the stored labels and their history; None: now. See `FormerLabels`."""
    if moment is None:
        return tuple(labels)
    return tuple(labels_at(labels, [FormerLabels.model_validate(each) for each in history or ()], moment))


def grouped_by(images: Iterable[Item], trait: Callable[[Item], Hashable]) -> Iterator[tuple[Item, list[Item]]]:
    """Group images that share a trait, so that one operation covers them: the first of a group, and the group."""
    groups: dict[Hashable, list[Item]] = {}
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
