"""Vectors that are ready-made: remembered at once, many in a request; without pictures, queue or worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from schemas.errors import InvalidRequest
from schemas.image import Accepted, ImageFields, State, StoredImage, now
from services.intake.accept import Accept
from services.intake.idempotent_put import planned
from services.memory.engine import Vectors
from services.memory.memory import Memory
from services.memory.pictures import new_keys_of_vectors
from services.memory.vectors import to_units
from services.runtime import metrics


@dataclass(frozen=True)
class Sent:
    """Vectors as they were sent, with what the caller says of each.

    Attributes:
        encoder: the name of the encoder that made them.
        vectors: float32 [n, d], of any length.
        fields: n of them.
    """

    encoder: str
    vectors: Vectors
    fields: Sequence[ImageFields]


@dataclass(frozen=True)
class AcceptVectors:
    """The use case, with the parts that it needs.

    The gate asks for no objections here: it would have to search the memory for every vector of thousands.

    Attributes:
        accept: its rules hold for these images too.
        memory: waits long enough for many points.
        encoder: the name of the memory's encoder.
    """

    accept: Accept
    memory: Memory
    encoder: str

    def __call__(self, tenant: str, sent: Sent) -> list[Accepted]:
        """Remember vectors, all or none; durable when it returns.

        What is said of ids in `Accept` holds here too. The content of such an image is its vector: float32,
        little-endian, as it was sent.

        Raises:
            InvalidRequest: they are not of the memory's encoder, or one was to expire in the past.
            InvalidVector: one is zero or not finite.
            Blocked: a removal refuses a content or subject.
        """
        self._check(sent)
        units = to_units(sent.vectors)
        contents = (sha256(row.tobytes()).hexdigest() for row in sent.vectors.astype("<f4", copy=False))
        images = [
            self.accept.image(tenant, fields, content_hash, key, State.REMEMBERED, self.encoder)
            for fields, content_hash, key in zip(
                sent.fields, contents, new_keys_of_vectors(len(sent.fields)), strict=True
            )
        ]
        self.accept.blocks.check(images)
        rows = {image.image_id: row for row, image in enumerate(images)}
        latest = {image_id: images[row] for image_id, row in rows.items()}

        def prepare(new: Sequence[StoredImage]) -> Vectors:
            return units[[rows[image.image_id] for image in new]]

        with metrics.stage("remember"):
            plan = planned(latest, self.memory.get(tenant, latest), now())
            states = self.accept.keep(latest, plan, prepare)
        metrics.ACCEPTED.labels(tenant).inc(len(images))
        metrics.REMEMBERED.labels(tenant).inc(len(images))
        return [Accepted(image_id=image.image_id, state=states[image.image_id]) for image in images]

    def _check(self, sent: Sent) -> None:
        rows, dimension = sent.vectors.shape
        if (sent.encoder, dimension) != (self.encoder, self.memory.dimension):
            raise InvalidRequest(
                f"the vectors are of {sent.encoder} ({dimension} numbers), the memory holds those of"
                f" {self.encoder} ({self.memory.dimension} numbers): send vectors of that encoder"
            )
        if not rows or rows != len(sent.fields):
            raise InvalidRequest(
                f"{rows} vectors came with the fields of {len(sent.fields)}: send one or more, of each"
            )
