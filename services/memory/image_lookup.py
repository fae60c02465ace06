"""Get, list and count the images of a memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np

from visual_memory.schemas.field_types import FIELDS, FieldType, Value, convert_value
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State, StoredImage, has_picture, point_id
from visual_memory.services.memory.points.page_cursor import point_of, to_cursor
from visual_memory.services.memory.points.point_filters import (
    UNMARKED,
    expired_of_every_tenant,
    in_state,
    within,
)
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.memory.vote_conditions import VoteConditions
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, PointFilter, Vectors


class ImageLookup:
    """Reads images by id or by filter.

    Args:
        points: of the collection.
        metadata: the declared metadata fields.
    """

    def __init__(self, points: Points, metadata: Mapping[str, FieldType]) -> None:
        self._points = points
        self._metadata = metadata
        self.voting = VoteConditions(self.tenants_with_expired)

    def get(self, tenant: str, image_ids: Collection[str]) -> dict[str, StoredImage]:
        """The images of a tenant that exist, by image id."""
        return self._points.get(tenant, image_ids)

    def page(
        self, tenant: str, clauses: Sequence[Clause], limit: int, cursor: str | None = None
    ) -> tuple[list[StoredImage], str | None]:
        """One page of the images that meet a filter, in a fixed order without meaning.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            limit: maximum number of images, at least 1.
            cursor: where to continue, as returned by the previous call.

        Returns:
            the images and the next cursor, None at the end. An image that exists throughout comes exactly once.

        Raises:
            InvalidCursor: the cursor is not one that `page` returned.
        """
        payloads, following = self._points.engine.scroll(within(tenant, clauses), limit, point_of(cursor))
        return [to_image(payload) for payload in payloads], to_cursor(following)

    def pages(self, tenant: str, clauses: Sequence[Clause], size: int) -> Iterator[list[StoredImage]]:
        """All images that meet a filter, in pages of at most `size`."""
        cursor = None
        while True:
            images, cursor = self.page(tenant, clauses, size, cursor)
            yield images
            if cursor is None:
                return

    def pages_with_vectors(
        self, tenant: str, clauses: Sequence[Clause], size: int, states: Collection[State] = ()
    ) -> Iterator[tuple[list[StoredImage], Vectors]]:
        """All images with vectors that meet a filter, ordered by point id, in pages of at most `size`.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            size: maximum number of images in a page.
            states: only unmarked images in these states, expired or not; empty: the images that vote now.

        Yields:
            n images and their vectors, float32 [n, dimension] of length 1.
        """
        which = [in_state(*states), UNMARKED] if states else self.voting.of(tenant)
        vector, cursor = self._points.vector, None
        where = within(tenant, [*clauses, *which], vector)
        while True:
            points, cursor = self._points.engine.export(where, size, cursor)
            rows = [each.vectors[vector] for each in points]
            vectors = np.array(rows, np.float32).reshape(len(rows), self._points.dimension)
            yield [to_image(each.payload) for each in points], vectors
            if cursor is None:
                return

    def vector_digests(self, images: Sequence[StoredImage], *, with_pictures: bool = False) -> dict[str, list[str]]:
        """Digests that identify the vectors of images, under every encoder; by image id.

        Args:
            images: of one tenant or several.
            with_pictures: include images that came as pictures; else only those that came as vectors.
        """
        which = [image for image in images if with_pictures or not has_picture(image.picture)]
        ids = tuple(point_id(image.tenant, image.image_id) for image in which)
        points, _ = self._points.engine.export(PointFilter(ids=ids), len(ids), None) if ids else ([], None)
        return {
            point.payload["image_id"]: [
                digest
                for vector in point.vectors.values()
                for digest in vector_digests(np.asarray(vector, np.float32)[None])[0]
            ]
            for point in points
        }

    def ids_of_points(self, tenant: str, points: Collection[str]) -> dict[str, str]:
        """The ids of a tenant's images by the ids of their points, except of images that a removal has marked."""
        images = map(to_image, self._points.engine.retrieve([*points]))
        found = {point_id(tenant, image.image_id): image.image_id for image in images if image.removal is None}
        return {point: found[point] for point in points if point in found}

    def count(self, tenant: str, clauses: Sequence[Clause] = ()) -> int:
        """Number of images that meet a filter."""
        return self._points.engine.count(within(tenant, clauses))

    def count_all(self) -> int:
        """Number of images of all tenants."""
        return self._points.engine.count(EVERY_POINT)

    def count_with_vectors(self, tenant: str, clauses: Sequence[Clause] = ()) -> int:
        """Number of unmarked images that meet a filter and have a vector of this encoder; others do not vote."""
        return self._points.engine.count(within(tenant, [*clauses, UNMARKED], self._points.vector))

    def count_by_state(self, tenant: str, clauses: Sequence[Clause] = ()) -> dict[State, int]:
        """Number of images that meet a filter, by state; states without images are left out."""
        counts = self._points.engine.facet("state", within(tenant, clauses))
        return {State(value): count for value, count in counts.items()}

    def count_by_label(self, tenant: str, clauses: Sequence[Clause] = ()) -> list[tuple[str, int]]:
        """Every label and the number of images that meet a filter and carry it; most frequent first, then by name."""
        return self._count_by("labels", tenant, clauses)

    def count_by_source(self, tenant: str, clauses: Sequence[Clause] = ()) -> list[tuple[str, int]]:
        """Every source and the number of images that meet a filter and have it; most frequent first, then by name."""
        return self._count_by("source", tenant, clauses)

    def _count_by(self, field: str, tenant: str, clauses: Sequence[Clause]) -> list[tuple[str, int]]:
        counts = self._points.engine.facet(field, within(tenant, clauses))
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def has_value(self, tenant: str, field: str, value: Value) -> bool:
        """Whether an unmarked image has a value in a field that a filter may name."""
        kind = FIELDS.get(field) or self._metadata.get(field.removeprefix("metadata."))
        return (
            kind is not None
            and self.count(tenant, [Clause(field, kind, (convert_value(field, kind, value),)), UNMARKED]) > 0
        )

    def tenants(self) -> list[str]:
        """All tenants that have images."""
        return sorted(self._points.engine.facet("tenant", EVERY_POINT))

    def tenants_with_expired(self, moment: datetime) -> list[str]:
        """The tenants with images whose expiry is at or before a moment; fast if there are few such images."""
        return sorted(self._points.engine.facet("tenant", expired_of_every_tenant(moment)))
