"""Put, amend, relabel and delete images, each only if it is unchanged since it was read (optimistic concurrency)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from visual_memory.schemas.filter import Clause, matches
from visual_memory.schemas.image import StoredImage, next_revision, point_id
from visual_memory.schemas.moments import now
from visual_memory.services.memory.points.point_filters import same_pictures, unamended
from visual_memory.services.memory.points.point_payload import AMENDABLE, amendment, grouped_by, to_point
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

RELABEL_TRIES = 5


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
        revised = _revised(amended)
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

    def relabel(self, images: Sequence[StoredImage], labels: Sequence[str], clauses: Sequence[Clause] = ()) -> int:
        """Set the labels of images of one tenant that still have the same picture; return how many got them.

        An image that was amended since it was read gets them too if it still meets the filter.

        Args:
            images: as they were read.
            labels: the new labels.
            clauses: the checked filter.
        """
        moment, relabelled, left = now(), 0, [*images]
        for _ in range(RELABEL_TRIES):
            if not left:
                break
            revised = _revised([(image, image.changed({"labels": [*labels]}, moment)) for image in left])
            after = self._points.write_and_get([*_amendments(revised, ("labels",))], left)
            missed = [image for image, changed in revised if not _is_stored(changed, after.get(image.image_id))]
            relabelled += len(left) - len(missed)
            read = [(image, after[image.image_id]) for image in missed if image.image_id in after]
            left = [found for image, found in read if found.picture == image.picture and _may_change(found, clauses)]
        return relabelled

    def delete(self, images: Sequence[StoredImage]) -> None:
        """Delete images of one tenant that still have the same picture."""
        if images:
            self._points.write([Delete(same_pictures(images))])

    def _to_points(
        self, images: Sequence[StoredImage], vectors: Vectors | None, rows: Sequence[int]
    ) -> tuple[list[Point], NamedVectors | None]:
        named = None if vectors is None else NamedVectors(self._points.vector, vectors[rows])
        return [to_point(images[row]) for row in rows], named


def _amendments(
    amended: Sequence[tuple[StoredImage, StoredImage]], fields: Iterable[str] = AMENDABLE
) -> Iterator[Write]:
    """Amend images that are as they were read; those of one revision that get the same fields share a write."""
    groups: dict[tuple[int, str], tuple[Payload, list[StoredImage]]] = {}
    for image, changed in amended:
        payload = {**amendment(changed, fields), "revision": changed.revision}
        key = image.revision, json.dumps(payload, sort_keys=True)
        groups.setdefault(key, (payload, []))[1].append(image)
    for payload, alike in groups.values():
        yield SetPayload(payload, unamended(alike))


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


def _may_change(image: StoredImage, clauses: Sequence[Clause]) -> bool:
    return image.removal is None and matches(clauses, image)


def _revised(amended: Iterable[tuple[StoredImage, StoredImage]]) -> list[tuple[StoredImage, StoredImage]]:
    """Set the following revision on each amended image; images of one revision get the same."""
    listed = list(amended)
    following = {revision: next_revision(revision) for revision in {image.revision for image, _ in listed}}
    return [
        (image, changed.model_copy(update={"picture": image.picture, "revision": following[image.revision]}))
        for image, changed in listed
    ]


def _revision(replaced: tuple[int, StoredImage]) -> int:
    return replaced[1].revision
