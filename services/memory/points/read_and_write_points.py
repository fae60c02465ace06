"""Read and write points as images; stamp every write that may change how images vote."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from visual_memory.schemas.image import StoredImage, point_id
from visual_memory.schemas.moments import now
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.vector_engines.engine_contract import (
    Engine,
    Insert,
    Payload,
    Replace,
    SetPayload,
    Write,
)

STAMPED = frozenset({"state", "labels"})
"""Fields that say whether an image votes, and for what; ``changed_at`` says when they were last written."""


class Points:
    """The points of a collection, with the vectors of one encoder.

    Args:
        engine: stores the points.
        encoder: name of the encoder.
        dimension: length of its vectors.

    Attributes:
        vector: name of the encoder's vectors in the collection.
    """

    def __init__(self, engine: Engine, encoder: str, dimension: int) -> None:
        self.engine = engine
        self.encoder = encoder
        self.vector = vector_name(encoder)
        self.dimension = dimension

    def get(self, tenant: str, image_ids: Collection[str]) -> dict[str, StoredImage]:
        """The images of a tenant that exist, by image id."""
        return by_id(self.engine.retrieve([point_id(tenant, image_id) for image_id in set(image_ids)]))

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """Apply writes as `Engine.write` does; those that may change how images vote set ``changed_at`` to now."""
        moment = {"changed_at": now().isoformat()}
        return self.engine.write([_stamped(write, moment) for write in writes], read, urgent)

    def write_and_get(
        self, writes: Sequence[Write], images: Sequence[StoredImage], others: Iterable[str] = ()
    ) -> dict[str, StoredImage]:
        """Apply writes; return the images, and others of the same tenant, as they are afterwards, by image id."""
        ids = {*(image.image_id for image in images), *others}
        return by_id(self.write(writes, [point_id(images[0].tenant, image_id) for image_id in ids]))


def by_id(payloads: Iterable[Payload]) -> dict[str, StoredImage]:
    """The images of payloads, by image id."""
    return {image.image_id: image for image in map(to_image, payloads)}


def _stamped(write: Write, moment: Payload) -> Write:
    match write:
        case Insert() | Replace():
            return replace(write, points=[replace(each, payload=each.payload | moment) for each in write.points])
        case SetPayload() if not STAMPED.isdisjoint(write.payload):
            return replace(write, payload=write.payload | moment)
    return write
