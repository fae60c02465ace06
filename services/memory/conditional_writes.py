"""Put, change and delete images, each only if it is unchanged since it was read (optimistic concurrency)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from visual_memory.schemas.image import StoredImage, next_revision, point_id
from visual_memory.services.memory.points.point_filters import in_state, same_pictures, unamended
from visual_memory.services.memory.points.point_payload import AMENDABLE, fields_to_set, grouped_by, to_point
from visual_memory.services.memory.points.read_and_write_points import Points, by_id
from visual_memory.services.memory.points.unit_vectors import check_units
from visual_memory.services.vector_engines.engine_contract import (
    Delete,
    Insert,
    NamedVectors,
    Payload,
    Point,
    Replace,
    SetPayload,
    Vectors,
    Write,
)


@dataclass(frozen=True)
class PutResult:
    """The outcome of a put or an amendment.

    Attributes:
        unreferenced: keys of pictures that no point refers to now: of replaced images, and of images that were not put.
        being_removed: ids of images that were not put or amended because a removal has marked or deleted them.
        overtaken: ids of images that were not put or amended because another caller changed them first.
        after: all images that were read afterwards, by image id.
    """

    unreferenced: Sequence[str] = ()
    being_removed: Sequence[str] = ()
    overtaken: Sequence[str] = ()
    after: Mapping[str, StoredImage] = field(default_factory=dict)


class ConditionalWrites:
    """Writes that compare the picture and the revision of an image with those that the caller read.

    Of several callers that change the same image at once, one succeeds; the others learn that they were overtaken.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def put(
        self,
        images: Sequence[StoredImage],
        before: Mapping[str, StoredImage] = MappingProxyType({}),
        amended: Sequence[tuple[StoredImage, StoredImage]] = (),
        vectors: Vectors | None = None,
    ) -> PutResult:
        """Insert images of one tenant or replace them as a whole, and amend others, in one write.

        Images are replaced or amended only while they have the picture and the revision that they were read with and
        no removal has marked them. Replaced images lose their vectors unless new ones are given.

        Args:
            images: each id once.
            before: the images with these ids as they were last read, by image id; others are ignored.
            amended: images as they were read, each with what it becomes. Only labels, fields and the history of the
                labels are written.
            vectors: of images without pictures: float32 [len(images), dimension], rows of length 1. If all images
                exist afterwards, those that replaced nothing are not read back.

        Raises:
            InvalidVector: a vector is not finite, zero, not of length 1, or there are not as many as images.
        """
        if vectors is not None:
            check_units(vectors, len(images), self._points.dimension)
        replaced = {image.image_id: before[image.image_id] for image in images if image.image_id in before}
        writes: list[Write] = []
        if fresh := [row for row, image in enumerate(images) if image.image_id not in replaced]:
            writes.append(Insert(*self._to_points(images, vectors, fresh)))
        existing = [(row, replaced[image.image_id]) for row, image in enumerate(images) if image.image_id in replaced]
        for _, alike in grouped_by(existing, _revision):
            points, rows = self._to_points(images, vectors, [row for row, _ in alike])
            writes.append(Replace(points, unamended([read for _, read in alike]), rows))
        revised = with_new_revisions(amended)
        writes += _amendments(revised)
        if not writes:
            return PutResult()
        tenant = (*images, *(each for each, _ in amended))[0].tenant
        unread = {images[row].image_id for row in fresh} if vectors is not None else set[str]()
        wanted = {*(image.image_id for image in images), *(image.image_id for image, _ in amended)}
        after = by_id(self._points.write(writes, [point_id(tenant, image_id) for image_id in wanted - unread]))
        if unread and self._points.engine.count(same_pictures([images[row] for row in fresh])) < len(fresh):
            after |= self._points.get(tenant, unread)
            unread = set()
        return _put_result([image for image in images if image.image_id not in unread], replaced, revised, after)

    def amend(self, image: StoredImage, changed: StoredImage) -> StoredImage | None:
        """Amend one image as `put` does; return it as it is then, None if it was not amended."""
        result = self.put((), amended=[(image, changed)])
        return None if result.overtaken or result.being_removed else result.after[image.image_id]

    def change(
        self, changed: Sequence[tuple[StoredImage, StoredImage]], fields: Sequence[str]
    ) -> dict[str, StoredImage]:
        """Write some fields of images of one tenant that have the picture and revision that they were read with.

        An image that a removal has marked stays as it is; where the state is written, one that is in another state too.

        Args:
            changed: images as they were read, each with what it becomes, with its new revision: of
                `with_new_revisions`.
            fields: the names of the written fields, of `AMENDABLE` or `STANDING`.

        Returns:
            the images that exist then, by image id; those that were changed have their new revision.
        """
        return self._points.write_and_get([*_amendments(changed, fields)], [image for image, _ in changed])

    def delete(self, images: Sequence[StoredImage]) -> None:
        """Delete images of one tenant that still have the same picture."""
        if images:
            self._points.write([Delete(same_pictures(images))])

    def _to_points(
        self, images: Sequence[StoredImage], vectors: Vectors | None, rows: Sequence[int]
    ) -> tuple[list[Point], NamedVectors | None]:
        named = None if vectors is None else NamedVectors(self._points.vector, vectors[rows])
        return [to_point(images[row]) for row in rows], named


def with_new_revisions(
    amended: Iterable[tuple[StoredImage, StoredImage]], following: dict[int, int] | None = None
) -> list[tuple[StoredImage, StoredImage]]:
    """Set the following revision on what each image becomes; images of one revision get the same.

    Args:
        amended: images as they were read, each with what it becomes.
        following: the revisions that followed others in earlier calls, which are used again; new ones are added.
    """
    listed, following = list(amended), {} if following is None else following
    for image, _ in listed:
        if image.revision not in following:
            following[image.revision] = next_revision(image.revision)
    return [
        (image, changed.model_copy(update={"picture": image.picture, "revision": following[image.revision]}))
        for image, changed in listed
    ]


def _amendments(
    amended: Sequence[tuple[StoredImage, StoredImage]], fields: Sequence[str] = AMENDABLE
) -> Iterator[Write]:
    """Amend images that are as they were read; those of one revision that get the same fields share a write."""
    groups: dict[tuple[int, str, str], tuple[Payload, list[StoredImage]]] = {}
    for image, changed in amended:
        payload = {**fields_to_set(changed, fields), "revision": changed.revision}
        key = image.revision, image.state.value if "state" in fields else "", json.dumps(payload, sort_keys=True)
        groups.setdefault(key, (payload, []))[1].append(image)
    for payload, alike in groups.values():
        yield SetPayload(payload, unamended(alike, [in_state(alike[0].state)] if "state" in fields else []))


def _put_result(
    images: Sequence[StoredImage],
    replaced: Mapping[str, StoredImage],
    amended: Sequence[tuple[StoredImage, StoredImage]],
    after: Mapping[str, StoredImage],
) -> PutResult:
    referenced = {image.picture for image in after.values()}
    known = {image.picture for image in (*images, *replaced.values())}
    missed = {image.image_id for image in images if image.picture not in referenced}
    missed |= {image.image_id for image, changed in amended if not _is_stored(changed, after.get(image.image_id))}
    marked = {each for each in missed if each in after and after[each].removal is not None}
    removed = marked | ({image.image_id for image in images} - after.keys())
    return PutResult(tuple(sorted(known - referenced)), tuple(sorted(removed)), tuple(sorted(missed - removed)), after)


def _is_stored(amended: StoredImage, after: StoredImage | None) -> bool:
    """Whether this amendment is the last one of the image."""
    return after is not None and (after.picture, after.revision) == (amended.picture, amended.revision)


def _revision(replaced: tuple[int, StoredImage]) -> int:
    return replaced[1].revision
