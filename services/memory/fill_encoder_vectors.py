"""Filling: images that are remembered already get the vectors of an encoder that was added."""

from collections.abc import Sequence
from dataclasses import replace

from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import NotEncoded, State, StoredImage
from visual_memory.services.memory.points.collection_schema import NOT_ENCODED, VECTOR_ONLY_INDEX, vector_name
from visual_memory.services.memory.points.page_cursor import point_of, to_cursor
from visual_memory.services.memory.points.point_filters import UNMARKED, same_pictures
from visual_memory.services.memory.points.point_payload import VECTOR_ONLY, grouped_by, has_picture, point_id, to_image
from visual_memory.services.memory.points.unit_vectors import check_units
from visual_memory.services.vector_engines.engine_contract import (
    Engine,
    Named,
    Payload,
    PointFilter,
    SetPayload,
    UpdateVectors,
    Vectors,
    Write,
)

HAS_BEEN_ENCODED = Clause("state", FieldType.KEYWORD, (State.REMEMBERED.value, State.MUTED.value))
CAME_AS_VECTOR = Clause("vector_only", FieldType.BOOLEAN, (True,))
CAME_AS_PICTURE = replace(CAME_AS_VECTOR, negated=True)
MARKED_AT_ONCE = 1000


class Filling:
    """Which images of a memory have the vector of one encoder, and how the others get it or are given up.

    Nothing that it writes says how images vote, so no write is dated; for what is raised, see
    `services.memory.memory.Memory`.

    Args:
        engine: holds the points.
        encoder_name: the name of the vectors.
        dimension: their length.
    """

    def __init__(self, engine: Engine, encoder_name: str, dimension: int) -> None:
        self._engine = engine
        self._encoder = encoder_name
        self._vector = vector_name(encoder_name)
        self._dimension = dimension
        self._all_marked = False

    def to_fill(self, tenant: str, limit: int, cursor: str | None = None) -> tuple[list[StoredImage], str | None]:
        """Some of a tenant's remembered or muted images that have a picture, but no vector of this encoder yet.

        Args:
            tenant: whose images.
            limit: at most so many, at least 1.
            cursor: where to go on, as the call before returned it; or where to begin, see `page_cursor.random_cursor`.

        Returns:
            the images, without those that were given up, and the next cursor, None at the end.
        """
        self._mark_all()
        payloads, following = self._engine.scroll(self._left(tenant), limit, point_of(cursor))
        return [to_image(payload) for payload in payloads], to_cursor(following)

    def fill(self, images: Sequence[StoredImage], vectors: Vectors) -> None:
        """Give images of one tenant their vectors of this encoder, those that still have the same picture and no mark.

        Nothing else of them is written: what was removed stays gone.

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
            self._engine.write([UpdateVectors(ids, Named(self._vector, vectors), where, beside=True)])

    def give_up(self, images: Sequence[StoredImage], reason: str) -> None:
        """Note that images of one tenant get no vector of this encoder, as it cannot encode their pictures.

        Args:
            images: as they were read.
            reason: a sentence, the same for all.
        """
        mine = NotEncoded(encoder=self._encoder, reason=reason)
        for image, alike in grouped_by(images, _not_encoded):
            others = [each for each in image.not_encoded if each.encoder != self._encoder]
            payload: Payload = {"not_encoded": [each.model_dump() for each in (*others, mine)]}
            self._engine.write([SetPayload(payload, same_pictures(alike, [UNMARKED]))])

    def fill_counts(self, tenant: str | None = None) -> FillCounts:
        """How far images that are remembered or muted have vectors of this encoder, exactly; None: of every tenant."""
        self._mark_all()
        filled = PointFilter(tenant, (HAS_BEEN_ENCODED,), vector=self._vector)
        vectors_only = PointFilter(tenant, (HAS_BEEN_ENCODED, CAME_AS_VECTOR), lacks=self._vector)
        failed = PointFilter(tenant, (HAS_BEEN_ENCODED, CAME_AS_PICTURE, self._given_up()), lacks=self._vector)
        return FillCounts(
            filled=self._engine.count(filled),
            left=self._engine.count(self._left(tenant)),
            failed=self._engine.count(failed),
            vectors_only=self._engine.count(vectors_only),
        )

    def has_left(self) -> bool:
        """Whether `to_fill` has anything, of any tenant; sooner known than how much."""
        self._mark_all()
        return bool(self._engine.scroll(self._left(None), 1, None)[0])

    def not_encoded(
        self, tenant: str, limit: int, cursor: str | None = None
    ) -> tuple[list[tuple[StoredImage, str]], str | None]:
        """Remembered or muted images without a vector of this encoder, each with the reason: a sentence.

        Args:
            tenant: whose images.
            limit: at most so many, at least 1.
            cursor: where to go on, as the call before returned it.

        Returns:
            the images and the next cursor, None at the end.
        """
        where = PointFilter(tenant, (HAS_BEEN_ENCODED,), lacks=self._vector)
        payloads, following = self._engine.scroll(where, limit, point_of(cursor))
        return [(image, self._why_not(image)) for image in map(to_image, payloads)], to_cursor(following)

    def forget_encoder(self, encoder_name: str) -> None:
        """Clear what `give_up` noted of an encoder, of every tenant."""
        marked, cursor = PointFilter(clauses=(_given_up_by(encoder_name),)), None
        while True:
            payloads, cursor = self._engine.scroll(marked, MARKED_AT_ONCE, cursor)
            writes: list[Write] = []
            for image, alike in grouped_by(map(to_image, payloads), _tenant_and_not_encoded):
                others = [each.model_dump() for each in image.not_encoded if each.encoder != encoder_name]
                writes.append(SetPayload({"not_encoded": others or None}, same_pictures(alike)))
            if writes:
                self._engine.write(writes, urgent=True)
            if cursor is None:
                return

    def _left(self, tenant: str | None) -> PointFilter:
        """What is yet to get a vector of this encoder; what a removal has marked gets none."""
        not_given_up = replace(self._given_up(), negated=True)
        clauses = (HAS_BEEN_ENCODED, CAME_AS_PICTURE, not_given_up, UNMARKED)
        return PointFilter(tenant, clauses, lacks=self._vector)

    def _given_up(self) -> Clause:
        return _given_up_by(self._encoder)

    def _why_not(self, image: StoredImage) -> str:
        if not has_picture(image.picture):
            return f"it came as a vector of {image.encoder}: send one of {self._encoder}"
        given_up = (each.reason for each in image.not_encoded if each.encoder == self._encoder)
        return next(given_up, "it is yet to be filled")

    def _mark_all(self) -> None:
        """Mark the images that came as vectors before these were marked: once, for then the mark has an index."""
        if self._all_marked:
            return
        shape, cursor = self._engine.inspect(), None
        if shape is not None and not VECTOR_ONLY_INDEX.keys() <= shape.indexes.keys():
            while True:
                where = PointFilter(clauses=(HAS_BEEN_ENCODED,))
                payloads, cursor = self._engine.scroll(where, MARKED_AT_ONCE, cursor)
                unmarked = [each for each in payloads if not VECTOR_ONLY.keys() <= each.keys()]
                vectors = [to_image(each) for each in unmarked if not has_picture(each["picture"])]
                if vectors:
                    self._engine.write(
                        [SetPayload({**VECTOR_ONLY}, same_pictures(alike)) for _, alike in grouped_by(vectors, _tenant)]
                    )
                if cursor is None:
                    break
            self._engine.index({**VECTOR_ONLY_INDEX})
        self._all_marked = True


def _tenant(image: StoredImage) -> str:
    return image.tenant


def _not_encoded(image: StoredImage) -> str:
    """What was noted of encoders that cannot encode it."""
    return image.model_dump_json(include={"not_encoded"})


def _tenant_and_not_encoded(image: StoredImage) -> tuple[str, str]:
    return image.tenant, _not_encoded(image)


def _given_up_by(encoder_name: str) -> Clause:
    return Clause(NOT_ENCODED, FieldType.KEYWORD, (encoder_name,))
