"""Find images that lack the vector of an added encoder; store it, or record why they get none."""

from collections.abc import Sequence
from dataclasses import replace

from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import NotEncoded, State, StoredImage, has_picture, point_id
from visual_memory.services.memory.points.collection_schema import NOT_ENCODED, VECTOR_ONLY_INDEX, vector_name
from visual_memory.services.memory.points.page_cursor import point_of, to_cursor
from visual_memory.services.memory.points.point_filters import UNMARKED, in_state, same_pictures
from visual_memory.services.memory.points.point_payload import VECTOR_ONLY, grouped_by, to_image
from visual_memory.services.memory.points.unit_vectors import check_units
from visual_memory.services.vector_engines.engine_contract import (
    Engine,
    NamedVectors,
    Payload,
    PointFilter,
    SetPayload,
    UpdateVectors,
    Vectors,
    Write,
)

ENCODED_ONCE = in_state(State.REMEMBERED, State.MUTED)
CAME_AS_VECTOR = Clause("vector_only", FieldType.BOOLEAN, (True,))
CAME_AS_PICTURE = replace(CAME_AS_VECTOR, negated=True)
PAGE = 1000


class MissingVectors:
    """The remembered and muted images that lack the vector of one encoder.

    Its writes do not change how images vote, so none is stamped. It raises the same errors as
    `services.memory.memory_facade.Memory`.

    Args:
        engine: stores the points.
        encoder_name: the name of the vectors.
        dimension: their length.
    """

    def __init__(self, engine: Engine, encoder_name: str, dimension: int) -> None:
        self._engine = engine
        self._encoder = encoder_name
        self._vector = vector_name(encoder_name)
        self._dimension = dimension
        self._all_flagged = False

    def page(self, tenant: str, limit: int, cursor: str | None = None) -> tuple[list[StoredImage], str | None]:
        """One page of a tenant's images that have a picture, but no vector of this encoder yet.

        Args:
            tenant: whose images.
            limit: maximum number of images, at least 1.
            cursor: where to continue, as returned by the previous call; or where to start, see
                `page_cursor.random_cursor`.

        Returns:
            the images, without those that were given up, and the next cursor, None at the end.
        """
        self._flag_vector_only()
        payloads, following = self._engine.scroll(self._left(tenant), limit, point_of(cursor))
        return [to_image(payload) for payload in payloads], to_cursor(following)

    def store(self, images: Sequence[StoredImage], vectors: Vectors) -> None:
        """Store the vectors of images of one tenant that still have the same picture and no mark.

        Nothing else of the images is written, and deleted images stay deleted.

        Args:
            images: as they were read.
            vectors: float32 [len(images), dimension], rows of length 1.

        Raises:
            InvalidVector: a vector is not finite, zero, not of length 1, or there are not as many as images.
        """
        check_units(vectors, len(images), self._dimension)
        if images:
            ids = [point_id(image.tenant, image.image_id) for image in images]
            where = same_pictures(images, [UNMARKED])
            self._engine.write([UpdateVectors(ids, NamedVectors(self._vector, vectors), where, additional=True)])

    def give_up(self, images: Sequence[StoredImage], reason: str) -> None:
        """Record that images of one tenant get no vector of this encoder because it cannot encode their pictures.

        Args:
            images: as they were read.
            reason: a sentence, the same for all.
        """
        given_up = NotEncoded(encoder=self._encoder, reason=reason)
        for image, alike in grouped_by(images, _not_encoded):
            others = [each for each in image.not_encoded if each.encoder != self._encoder]
            payload: Payload = {"not_encoded": [each.model_dump() for each in (*others, given_up)]}
            self._engine.write([SetPayload(payload, same_pictures(alike, [UNMARKED]))])

    def counts(self, tenant: str | None = None) -> FillCounts:
        """Exact numbers of remembered or muted images with and without a vector of this encoder; None: of everyone."""
        self._flag_vector_only()
        filled = PointFilter(tenant, (ENCODED_ONCE,), vector=self._vector)
        vectors_only = PointFilter(tenant, (ENCODED_ONCE, CAME_AS_VECTOR), lacks=self._vector)
        failed = PointFilter(tenant, (ENCODED_ONCE, CAME_AS_PICTURE, self._given_up()), lacks=self._vector)
        return FillCounts(
            filled=self._engine.count(filled),
            left=self._engine.count(self._left(tenant)),
            failed=self._engine.count(failed),
            vectors_only=self._engine.count(vectors_only),
        )

    def any_left(self) -> bool:
        """Whether `page` returns images for any tenant; faster than `counts`."""
        self._flag_vector_only()
        return bool(self._engine.scroll(self._left(None), 1, None)[0])

    def page_with_reasons(
        self, tenant: str, limit: int, cursor: str | None = None
    ) -> tuple[list[tuple[StoredImage, str]], str | None]:
        """One page of the images without a vector of this encoder, each with the reason: a sentence.

        Args:
            tenant: whose images.
            limit: maximum number of images, at least 1.
            cursor: where to continue, as returned by the previous call.

        Returns:
            the images and the next cursor, None at the end.
        """
        where = PointFilter(tenant, (ENCODED_ONCE,), lacks=self._vector)
        payloads, following = self._engine.scroll(where, limit, point_of(cursor))
        return [(image, self._reason(image)) for image in map(to_image, payloads)], to_cursor(following)

    def clear_given_up(self, encoder_name: str) -> None:
        """Clear what `give_up` recorded for an encoder, of every tenant."""
        given_up, cursor = PointFilter(clauses=(_given_up_by(encoder_name),)), None
        while True:
            payloads, cursor = self._engine.scroll(given_up, PAGE, cursor)
            writes: list[Write] = []
            for image, alike in grouped_by(map(to_image, payloads), _tenant_and_not_encoded):
                others = [each.model_dump() for each in image.not_encoded if each.encoder != encoder_name]
                writes.append(SetPayload({"not_encoded": others or None}, same_pictures(alike)))
            if writes:
                self._engine.write(writes, urgent=True)
            if cursor is None:
                return

    def _left(self, tenant: str | None) -> PointFilter:
        """The images that are still to get a vector of this encoder; marked images get none."""
        not_given_up = replace(self._given_up(), negated=True)
        clauses = (ENCODED_ONCE, CAME_AS_PICTURE, not_given_up, UNMARKED)
        return PointFilter(tenant, clauses, lacks=self._vector)

    def _given_up(self) -> Clause:
        return _given_up_by(self._encoder)

    def _reason(self, image: StoredImage) -> str:
        if not has_picture(image.picture):
            return f"it came as a vector of {image.encoder}: send one of {self._encoder}"
        given_up = (each.reason for each in image.not_encoded if each.encoder == self._encoder)
        return next(given_up, "it is yet to be filled")

    def _flag_vector_only(self) -> None:
        """Set ``vector_only`` on images that an earlier version stored without; done once the field has an index."""
        if self._all_flagged:
            return
        shape, cursor = self._engine.inspect(), None
        if shape is not None and not VECTOR_ONLY_INDEX.keys() <= shape.indexes.keys():
            while True:
                payloads, cursor = self._engine.scroll(PointFilter(clauses=(ENCODED_ONCE,)), PAGE, cursor)
                without = [each for each in payloads if not VECTOR_ONLY.keys() <= each.keys()]
                vectors = [to_image(each) for each in without if not has_picture(each["picture"])]
                if vectors:
                    self._engine.write(
                        [SetPayload({**VECTOR_ONLY}, same_pictures(alike)) for _, alike in grouped_by(vectors, _tenant)]
                    )
                if cursor is None:
                    break
            self._engine.index({**VECTOR_ONLY_INDEX})
        self._all_flagged = True


def _tenant(image: StoredImage) -> str:
    return image.tenant


def _not_encoded(image: StoredImage) -> str:
    return image.model_dump_json(include={"not_encoded"})


def _tenant_and_not_encoded(image: StoredImage) -> tuple[str, str]:
    return image.tenant, _not_encoded(image)


def _given_up_by(encoder_name: str) -> Clause:
    return Clause(NOT_ENCODED, FieldType.KEYWORD, (encoder_name,))
