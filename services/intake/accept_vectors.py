"""Accept vectors that the caller computed: remembered at once, without pictures, queue or worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.event import EventType
from visual_memory.schemas.image import Accepted, ImageFields, State, StoredImage
from visual_memory.schemas.labels import LabelRule
from visual_memory.schemas.moments import now
from visual_memory.schemas.usage import Measure
from visual_memory.services.access.tenant_usage import CountUsage, count_nothing
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.storage.picture_store import new_keys_of_vectors
from visual_memory.services.intake.execute_put_plan import NO_FENCE, PutImages, WriteFence
from visual_memory.services.intake.plan_put import Plan, ToPut, planned, sent_together
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.memory.points.vector_digests import unit_digests
from visual_memory.services.vector_engines.engine_contract import Vectors


@dataclass(frozen=True)
class Sent:
    """Vectors as they were sent, with the fields of each.

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
    """The use case.

    Labels are not checked against neighbours here: that would search the memory for each of thousands of vectors.

    Attributes:
        put: writes images.
        memory: has a timeout that is long enough for many points.
        encoder: the name of its encoder.
        other: finds another encoder of the memory by its name; None if it has none, or is dropping it.
        publish: publishes the events ``accepted`` and ``remembered``.
        count_usage: counts images for the tenant.
    """

    put: PutImages
    memory: Memory
    encoder: str
    other: Callable[[str], EncoderSpec | None] = lambda _: None
    publish: Publish = publish_nothing
    count_usage: CountUsage = count_nothing

    def __call__(
        self,
        tenant: str,
        sent: Sent,
        label_rule: LabelRule = LabelRule.REPLACE,
        *,
        may_expire: bool = True,
        fence: WriteFence = NO_FENCE,
    ) -> list[Accepted]:
        """Remember all of the vectors or none; they are durable when this returns.

        Ids are handled as in `AcceptPictures`. The content of such an image is its vector: float32, little-endian, as
        it was sent. A stored image with a vector of another encoder keeps it and gets this one in addition; it votes
        under each encoder of its vectors.

        Args:
            tenant: the tenant of the images.
            sent: the vectors.
            label_rule: as in `AcceptPictures`.
            may_expire: as in `AcceptPictures`.
            fence: as in `AcceptPictures`; a vector that was added to a stored image is not reverted.

        Raises:
            Forbidden: as in `AcceptPictures`.
            InvalidRequest: the memory has no such encoder, or an image would expire in the past.
            InvalidVector: a vector is zero or not finite.
            Blocked: a removal blocks a content or subject.
        """
        memory = self._memory_of(sent)
        put = replace(self.put, memory=memory)
        units = to_units(sent.vectors)
        contents = [sha256(row.tobytes()).hexdigest() for row in sent.vectors.astype("<f4", copy=False)]
        ids = [given.image_id or content for given, content in zip(sent.fields, contents, strict=True)]
        fields = [*sent_together(zip(ids, sent.fields, strict=True), label_rule)]
        keys, digests = new_keys_of_vectors(len(sent.fields)), unit_digests(units)
        images = [
            put.new_image(tenant, given, content_hash, key, State.REMEMBERED, sent.encoder).model_copy(
                update={"vector_digests": known_by}
            )
            for given, content_hash, key, known_by in zip(fields, contents, keys, digests, strict=True)
        ]
        put.blocks.check(images)
        rows = {image_id: row for row, image_id in enumerate(ids)}
        latest = {image_id: ToPut.of(images[row], fields[row]) for image_id, row in rows.items()}
        rules = put.rules(label_rule, may_expire=may_expire)

        def vectors_of(some: Sequence[StoredImage]) -> Vectors:
            return units[[rows[image.image_id] for image in some]]

        def prepare(plan: Plan) -> Vectors:
            if plan.add_vector_to:
                memory.missing_vectors.store(plan.add_vector_to, vectors_of(plan.add_vector_to))
            return vectors_of(plan.new)

        with prometheus_metrics.stage("remember"):
            plan = planned(latest, memory.images.get(tenant, latest), now(), rules)
            accepted = put(latest, plan, prepare, rules, fence)
        prometheus_metrics.ACCEPTED.inc(len(images))
        prometheus_metrics.REMEMBERED.inc(len(images))
        self.count_usage(tenant, dict.fromkeys((Measure.IMAGES_ACCEPTED, Measure.IMAGES_REMEMBERED), len(images)))
        self.publish(tenant, EventType.ACCEPTED, [*latest])
        self.publish(tenant, EventType.REMEMBERED, [*latest], encoder=sent.encoder)
        return [accepted[image_id] for image_id in ids]

    def _memory_of(self, sent: Sent) -> Memory:
        """The memory under the encoder of the vectors.

        Raises:
            InvalidRequest: it has no such encoder, the vectors have another length, or their number is not that of the
                fields.
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
        return self.memory.with_encoder(encoder, size) if other else self.memory
