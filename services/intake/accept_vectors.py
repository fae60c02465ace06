"""Vectors that are ready-made: remembered at once, many in a request; without pictures, queue or worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.image import Accepted, ImageFields, State, StoredImage, now
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.storage.picture_store import new_keys_of_vectors
from visual_memory.services.intake.accept_pictures import Accept
from visual_memory.services.intake.idempotent_put import Plan, ToPut, planned, sent_together
from visual_memory.services.intake.write_fence import NO_GUARD, WriteGuard
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.memory.points.vector_digests import unit_digests
from visual_memory.services.vector_engines.engine_contract import Vectors


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
        encoder: the name of its encoder.
        other: the memory's encoder of another name, where it has it and does not drop it.
    """

    accept: Accept
    memory: Memory
    encoder: str
    other: Callable[[str], EncoderSpec | None] = lambda _: None

    def __call__(
        self,
        tenant: str,
        sent: Sent,
        labels: LabelRule = LabelRule.REPLACE,
        *,
        may_expire: bool = True,
        guard: WriteGuard = NO_GUARD,
    ) -> list[Accepted]:
        """Remember vectors, all or none; durable when it returns.

        What is said of ids in `Accept` holds here too. The content of such an image is its vector: float32,
        little-endian, as it was sent. One that is there with a vector of another encoder keeps it, and gets this one
        beside it; it votes wherever the encoder of one of its vectors does.

        Args:
            tenant: whose they are.
            sent: the vectors.
            labels: as in `Accept`.
            may_expire: as in `Accept`.
            guard: as in `Accept`; a vector that was put beside another is not taken back.

        Raises:
            Forbidden: as in `Accept`.
            InvalidRequest: they are of none of the memory's encoders, or one was to expire in the past.
            InvalidVector: one is zero or not finite.
            Blocked: a removal refuses a content or subject.
        """
        memory = self._memory_of(sent)
        accept = replace(self.accept, memory=memory)
        units = to_units(sent.vectors)
        contents = [sha256(row.tobytes()).hexdigest() for row in sent.vectors.astype("<f4", copy=False)]
        ids = [said.image_id or content for said, content in zip(sent.fields, contents, strict=True)]
        fields = [*sent_together(zip(ids, sent.fields, strict=True), labels)]
        keys, digests = new_keys_of_vectors(len(sent.fields)), unit_digests(units)
        images = [
            self.accept.image(tenant, said, content_hash, key, State.REMEMBERED, sent.encoder).model_copy(
                update={"vector_digests": known_by}
            )
            for said, content_hash, key, known_by in zip(fields, contents, keys, digests, strict=True)
        ]
        self.accept.blocks.check(images)
        rows = {image_id: row for row, image_id in enumerate(ids)}
        latest = {image_id: ToPut.of(images[row], fields[row]) for image_id, row in rows.items()}
        rules = self.accept.rules(labels, may_expire=may_expire)

        def vectors_of(some: Sequence[StoredImage]) -> Vectors:
            return units[[rows[image.image_id] for image in some]]

        def prepare(plan: Plan) -> Vectors:
            if plan.beside:
                memory.filling.fill(plan.beside, vectors_of(plan.beside))
            return vectors_of(plan.new)

        with prometheus_metrics.stage("remember"):
            plan = planned(latest, memory.get(tenant, latest), now(), rules)
            accepted = accept.keep(latest, plan, prepare, rules, guard)
        prometheus_metrics.ACCEPTED.labels(tenant).inc(len(images))
        prometheus_metrics.REMEMBERED.labels(tenant).inc(len(images))
        return [accepted[image_id] for image_id in ids]

    def _memory_of(self, sent: Sent) -> Memory:
        """The memory under the encoder whose vectors were sent.

        Raises:
            InvalidRequest: it has no such encoder, they have another length, or there are not as many as fields.
        """
        rows, dimension = sent.vectors.shape
        other = None if sent.encoder == self.encoder else self.other(sent.encoder)
        encoder, size = (other.name, other.dimension) if other else (self.encoder, self.memory.dimension)
        if (sent.encoder, dimension) != (encoder, size):
            raise InvalidRequest(
                f"the vectors are of {sent.encoder} ({dimension} numbers), the memory holds those of"
                f" {encoder} ({size} numbers): send vectors of that encoder"
            )
        if not rows or rows != len(sent.fields):
            raise InvalidRequest(
                f"{rows} vectors came with the fields of {len(sent.fields)}: send one or more, of each"
            )
        return self.memory.under(encoder, size) if other else self.memory
