"""Store the vectors of leased images, so that they are remembered, or end their leases without."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from visual_memory.schemas.errors import InvalidVector
from visual_memory.schemas.image import State, StoredImage, point_id
from visual_memory.services.memory.image_leases import NOT_BEGUN, leased, release_writes
from visual_memory.services.memory.label_conflicts import LabelConflict
from visual_memory.services.memory.muted_images import NOT_DOUBTED
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_filters import doubted
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.memory.points.unit_vectors import check_units
from visual_memory.services.vector_engines.engine_contract import (
    NamedVectors,
    SetPayload,
    UpdateVectors,
    Vectors,
    Write,
)


@dataclass(frozen=True)
class NotRemembered:
    """Leased images that get no vector.

    Attributes:
        rejected: given up, each with its reason, a sentence.
        released: these wait again; the attempt does not count.
        postponed: as these, but their leases run until they expire.
    """

    rejected: Sequence[tuple[StoredImage, str]] = ()
    released: Sequence[StoredImage] = ()
    postponed: Sequence[StoredImage] = ()


NOTHING_ELSE = NotRemembered()


class EmbeddingWriter:
    """Writes vectors and the state that follows from them.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points
        remembered = {"state": State.REMEMBERED.value, "encoder": points.encoder, "attempts": 0}
        self._remembered = {**NOT_BEGUN, **remembered}

    def store(
        self,
        images: Sequence[StoredImage],
        vectors: Vectors,
        conflicts: Mapping[str, LabelConflict] = MappingProxyType({}),
        others: NotRemembered = NOTHING_ELSE,
        further: Mapping[str, Vectors] = MappingProxyType({}),
    ) -> int:
        """Remember images with their vectors, and reject or release others that were leased with them.

        Images that the caller has lost since, to a removal, a new picture or the end of the lease, are left alone.

        Args:
            images: of one tenant, as `ImageLeases.begin` returned them.
            vectors: float32 [len(images), dimension], rows of length 1.
            conflicts: label conflicts of some of these images, by image id.
            others: images of the same tenant that get no vector.
            further: vectors of other encoders for the same images, by encoder name: float32 [len(images), d], rows of
                length 1, or of NaN if there is none. Those of an encoder that was dropped are left out.

        Returns:
            how many of the images are remembered now.

        Raises:
            InvalidVector: a vector is not finite, zero, not of length 1, or there are not as many as images.
        """
        check_units(vectors, len(images), self._points.dimension)
        with_vectors = [*_further(images, further), *self._vectors(images, vectors, conflicts)]
        writes = [*_without_vectors(others), *with_vectors]
        if not writes:
            return 0
        voters = {voter for conflict in conflicts.values() for voter in conflict.voters}
        after = self._points.write_and_get(writes, images, voters)
        if conflicts:
            voting = {
                each for each, image in after.items() if image.state is State.REMEMBERED and image.removal is None
            }
            confirmed = {each: conflict for each, conflict in conflicts.items() if voting.issuperset(conflict.voters)}
            after = self._points.write_and_get([*self._confirmed(images, confirmed)], images)
        return sum(
            image.state is State.REMEMBERED and image.picture == given.picture
            for given in images
            if (image := after.get(given.image_id))
        )

    def _vectors(
        self, images: Sequence[StoredImage], vectors: Vectors, conflicts: Mapping[str, LabelConflict]
    ) -> Iterator[Write]:
        """Set vectors, then the state of images without conflicts, and the doubts of the others.

        The state requires the vector, so a point that was put again in between is never remembered without one.
        """
        if not images:
            return
        vector = self._points.vector
        ids = [point_id(image.tenant, image.image_id) for image in images]
        yield UpdateVectors(ids, NamedVectors(vector, vectors), leased(images))
        if clear := [image for image in images if image.image_id not in conflicts]:
            yield SetPayload({**self._remembered, **NOT_DOUBTED}, leased(clear, vector=vector))
        for image in images:
            if (conflict := conflicts.get(image.image_id)) is not None:
                yield SetPayload(conflict.unconfirmed(), leased([image], vector=vector))

    def _confirmed(self, images: Sequence[StoredImage], conflicts: Mapping[str, LabelConflict]) -> Iterator[Write]:
        """Remember or mute images whose doubt is still set, after all of its voters were seen to vote.

        The doubt was written before that, and a removal clears doubts after it has deleted points. So either the
        removal finds the doubt, or the voters are found missing and the image waits again.
        """
        for image in images:
            if (conflict := conflicts.get(image.image_id)) is not None:
                where = leased([image], [doubted(conflict.doubt)], vector=self._points.vector)
                state = {"state": conflict.state.value, "reason": conflict.reason}
                yield SetPayload({**self._remembered, **state}, where)


def _further(images: Sequence[StoredImage], further: Mapping[str, Vectors]) -> Iterator[Write]:
    """Set the vectors of other encoders, of the images that have one."""
    for encoder_name, vectors in further.items():
        rows = np.flatnonzero(~np.isnan(vectors).all(axis=1)).tolist()
        check_units(vectors[rows], len(rows), vectors.shape[1])
        if len(vectors) != len(images):
            raise InvalidVector(f"{len(images)} images need {len(images)} vectors of {encoder_name}")
        if len(rows):
            given = [images[row] for row in rows]
            ids = [point_id(image.tenant, image.image_id) for image in given]
            yield UpdateVectors(ids, NamedVectors(vector_name(encoder_name), vectors[rows]), leased(given))


def _without_vectors(others: NotRemembered) -> Iterator[Write]:
    for image, reason in others.rejected:
        yield SetPayload({**NOT_BEGUN, "state": State.REJECTED.value, "reason": reason}, leased([image]))
    yield from release_writes(others.released, NOT_BEGUN)
    yield from release_writes(others.postponed, {"lease": None})
