"""Find the images of a memory that are most similar to an image or a vector, whether they vote or not."""

from collections.abc import Sequence

import numpy as np

from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.errors import Conflict, InvalidVector, NotFound
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import StoredImage, point_id
from visual_memory.schemas.image_search import SimilarTo
from visual_memory.services.memory.points.point_filters import UNMARKED, within
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import PointFilter, Search, Vectors


class SimilarImages:
    """Finds images by their vectors of one encoder.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def nearest(
        self, tenant: str, to: SimilarTo, limit: int, clauses: Sequence[Clause] = ()
    ) -> list[tuple[StoredImage, float]]:
        """The images with the most similar vectors that meet a filter, without those that a removal has marked.

        Args:
            tenant: whose images.
            to: an image of the tenant, which is left out, or a vector of the memory's encoder.
            limit: maximum number of images, at least 1.
            clauses: the checked filter.

        Returns:
            images with their cosine similarities, -1 to 1, by descending similarity, then by id.

        Raises:
            NotFound: there is no such image.
            Conflict: the image has no vector, or not yet.
            InvalidVector: the vector is zero or of another length.
        """
        vector = self._vector(tenant, to)
        far = any(clause.field == "labels" or clause.bounds for clause in clauses)
        search = Search(
            self._points.vector,
            within(tenant, [*clauses, UNMARKED]),
            limit + (to.image_id is not None),
            Effort.BALANCED,
            ("image_id",),
            far,
        )
        [answer] = self._points.engine.query_batch(vector, search)
        found = dict(zip(answer.columns["image_id"], answer.scores, strict=True))
        found.pop(to.image_id, None)
        ranked = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:limit]
        images = self._points.get(tenant, [image_id for image_id, _ in ranked])
        return [(images[image_id], max(-1.0, min(1.0, score))) for image_id, score in ranked if image_id in images]

    def _vector(self, tenant: str, to: SimilarTo) -> Vectors:
        """What to search for, float32 [1, dimension] of length 1."""
        if to.vector is not None:
            if len(to.vector) != self._points.dimension:
                raise InvalidVector(
                    f"similar_to.vector: the encoder {self._points.encoder} makes vectors of {self._points.dimension}"
                    f" numbers, not of {len(to.vector)}"
                )
            return to_units(np.array([to.vector]))
        image_id = to.image_id or ""
        stored, _ = self._points.engine.export(PointFilter(tenant, ids=(point_id(tenant, image_id),)), 1, None)
        if not stored:
            raise NotFound(f"there is no image {image_id!r}")
        row = stored[0].vectors.get(self._points.vector)
        if row is None:
            raise Conflict(
                f"image {image_id!r} has no vector of {self._points.encoder}: its state is {stored[0].payload['state']}"
            )
        return to_units(np.asarray([row], np.float32))
