"""Remember pictures: a worker embeds a tenant's waiting images, slice by slice."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visual_memory.schemas.errors import DecoderFailed, NotFound, Unavailable, VisualMemoryError
from visual_memory.schemas.event import EventType
from visual_memory.schemas.image import Doubt, StoredImage, point_id
from visual_memory.schemas.usage import Measure
from visual_memory.services.access.tenant_usage import CountUsage, count_nothing
from visual_memory.services.curation.check_labels_of_new_images import CheckLabels
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.store_embeddings import NotRemembered
from visual_memory.services.vector_engines.engine_contract import Vectors

ALONE_SECONDS = 0.5
"""Longest wait for another retried image, in seconds; then the tenant is enqueued again."""
SLICE_SECONDS = 2.0
"""Time limit for decoding a slice, so that other tenants are served and no lease ends meanwhile."""

EmbedWithOthers = Callable[[Sequence[StoredImage], Sequence[PIL.Image.Image]], Mapping[str, Vectors]]
"""Embeds images with other encoders; see `services.intake.embed_with_other_encoders`."""

log = logging.getLogger(__name__)


def no_other_encoders(_images: Sequence[StoredImage], _decoded: Sequence[PIL.Image.Image]) -> Mapping[str, Vectors]:
    """The `EmbedWithOthers` without encoders."""
    return {}


@dataclass
class _Slice:
    """Images that were begun together, and their outcomes.

    Attributes:
        behind: images that were not reached.
        decoded: decoded images, with their pictures.
        failed: images on which the decoder crashed; they stay begun, so that the attempt counts.
        rejected: images to reject, with reasons.
        postponed: images whose pictures cannot be read at the moment.
        held: images that the label check mutes, if it is confirmed.
    """

    behind: Sequence[StoredImage]
    decoded: list[tuple[StoredImage, PIL.Image.Image]] = field(default_factory=list)
    failed: list[StoredImage] = field(default_factory=list)
    rejected: list[tuple[StoredImage, str]] = field(default_factory=list)
    postponed: list[StoredImage] = field(default_factory=list)
    held: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class RememberPictures:
    """The use case.

    Attributes:
        enqueue: tells the workers that a tenant has pictures to remember; a failure is not reported.
        slice_size: how many images are processed at once.
        lease: how long an image that was begun is left to its worker.
        max_attempts: how often an image is begun before it is rejected.
        check_labels: checks the labels of new images against their neighbours.
        embed_with_others: embeds images with other encoders.
        slice_seconds: time limit for decoding a slice.
        publish: publishes the events ``remembered``, ``held`` and ``rejected``.
        count_usage: counts images for the tenant.
        alone: held while an image is processed that was begun before.
    """

    memory: Memory
    pictures: PictureStore
    encoder: SharedEncoder
    decoder: Decoder
    enqueue: Callable[[str], object]
    slice_size: int
    lease: timedelta
    max_attempts: int
    check_labels: CheckLabels
    embed_with_others: EmbedWithOthers = no_other_encoders
    slice_seconds: float = SLICE_SECONDS
    publish: Publish = publish_nothing
    count_usage: CountUsage = count_nothing
    alone: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def __call__(self, tenant: str) -> None:
        """Remember a slice of a tenant's oldest waiting images; if there are more, the tenant is enqueued again.

        It is enqueued before the pictures are decoded, so that other workers can continue with this tenant meanwhile,
        and behind all other tenants in the queue, so that all are served.

        An image that was begun before may have crashed its worker. It is processed as a separate slice, one at a time
        in each process, so that another crash does not count against other images.

        Raises:
            Unavailable: a component does not answer; the images keep waiting, and the sweep enqueues the tenant.
        """
        waiting = self.memory.leases.oldest_waiting(tenant, self.slice_size + 1, self.lease)
        due = waiting[: self.slice_size]
        fresh = [image for image in due if not image.attempts]
        again = sorted((image for image in due if image.attempts), key=lambda image: image.attempts)[:1]
        more = len(waiting) > len(fresh) + len(again)
        if not waiting:
            log.info("a message for a tenant of whom nothing waits")
        if fresh:
            self._remember(tenant, fresh, more=more)
        if again:
            self._remember_alone(tenant, again, more=more and not fresh)

    def _remember_alone(self, tenant: str, images: Sequence[StoredImage], *, more: bool) -> None:
        if not self.alone.acquire(timeout=ALONE_SECONDS):
            self.enqueue(tenant)
            return
        try:
            self._remember(tenant, images, more=more)
        finally:
            self.alone.release()

    def _remember(self, tenant: str, images: Sequence[StoredImage], *, more: bool) -> None:
        """Begin images, and remember or reject those that were begun."""
        begun = self.memory.leases.begin(images)
        if more:
            self.enqueue(tenant)
        if not begun:
            return
        result = _Slice(begun)
        try:
            self._decode_all(begun, result)
            embedded = list(embed(self.encoder, result.decoded, result.rejected))
            others = self._embed_with_others(result, embedded)
            result.decoded.clear()
            remembered = self._finish(result, embedded, others)
        except Unavailable:
            self.memory.leases.release([image for image in begun if image not in result.failed])
            raise
        self._report(tenant, remembered, [image for image, _ in embedded], result)
        if result.behind:
            self.enqueue(tenant)

    def _decode_all(self, begun: Sequence[StoredImage], result: _Slice) -> None:
        """Decode images until the decoder crashes on one, or the time limit is reached.

        An unreadable picture does not delay the others, unless the whole picture store does not answer.
        After one that took long similar ones may follow, and the leases of the others must not end meanwhile.
        """
        deadline = time.monotonic() + self.slice_seconds
        for number, image in enumerate(begun, 1):
            ended = True
            try:
                self._decode(image, result)
                ended = time.monotonic() >= deadline
            except Unavailable as error:
                self.pictures.ping()
                log.warning("postponed: %s", kind(error), extra=_names([image]))
                result.postponed.append(image)
                ended = time.monotonic() >= deadline
            except DecoderFailed as error:
                log.warning("attempt %d: %s", image.attempts, error.message, extra=_names([image]))
                result.failed.append(image)  # its lease ends, and the sweep enqueues its tenant
                if image.attempts >= self.max_attempts:
                    result.rejected.append((image, error.message))
            result.behind = begun[number:]
            if ended:
                return

    def _decode(self, image: StoredImage, result: _Slice) -> None:
        """Decode an image, or reject it with a reason."""
        if image.attempts > self.max_attempts:
            result.rejected.append((image, f"gave up after {self.max_attempts} attempts that did not end"))
            return
        try:
            with prometheus_metrics.stage("decode"):
                pixels = self.pictures.pixels(image.picture)
                ready = self.decoder.unpack(pixels) if pixels else None
                ready = ready or self.decoder.decode_one(image.tenant, self.pictures.read(image.picture))
                result.decoded.append((image, ready))
        except (Unavailable, DecoderFailed):
            raise
        except NotFound:
            result.rejected.append((image, "its picture is gone from the blob store"))
        except VisualMemoryError as error:
            result.rejected.append((image, error.message))

    def _embed_with_others(
        self, result: _Slice, embedded: Sequence[tuple[StoredImage, NDArray[np.float32]]]
    ) -> Mapping[str, Vectors]:
        """Embed the images that are about to be remembered with other encoders."""
        decoded = {image.picture: picture for image, picture in result.decoded}
        images = [image for image, _ in embedded]
        return self.embed_with_others(images, [decoded[image.picture] for image in images]) if images else {}

    def _finish(
        self,
        result: _Slice,
        embedded: Sequence[tuple[StoredImage, NDArray[np.float32]]],
        from_others: Mapping[str, Vectors],
    ) -> int:
        """Write what became of the slice; how many images are remembered now."""
        images = [image for image, _ in embedded]
        vectors = np.array([vector for _, vector in embedded], np.float32).reshape(len(images), self.memory.dimension)
        others = NotRemembered(result.rejected, result.behind, result.postponed)
        with prometheus_metrics.stage("remember"):
            conflicts = self.check_labels(images, vectors)
            result.held = {image_id for image_id, each in conflicts.items() if each.doubt is Doubt.HELD}
            remembered = self.memory.embeddings.store(images, vectors, conflicts, others, from_others)
            ended = [*images, *(image for image, _ in result.rejected)]
            self.pictures.drop_pixels(image.picture for image in ended)
        return remembered

    def _report(self, tenant: str, remembered: int, images: Sequence[StoredImage], result: _Slice) -> None:
        if images:
            prometheus_metrics.REMEMBERED.inc(remembered)
            self.count_usage(tenant, {Measure.IMAGES_REMEMBERED: remembered})
            log.info("remembered %d", remembered, extra=_names(images))
        if rejected := [image for image, _ in result.rejected]:
            prometheus_metrics.REJECTED.inc(len(rejected))
            self.count_usage(tenant, {Measure.IMAGES_REJECTED: len(rejected)})
            log.info("rejected %d", len(rejected), extra=_names(rejected))
        self._publish(tenant, remembered, images, result)

    def _publish(self, tenant: str, remembered: int, images: Sequence[StoredImage], result: _Slice) -> None:
        """Publish what became of the slice; which images were lost to others meanwhile is not known."""
        encoder = self.memory.points.encoder
        encoder = self.encoder.name
        if remembered:
            ids = [image.image_id for image in images if image.image_id not in result.held]
            self.publish(
                tenant, EventType.REMEMBERED, ids if len(ids) == remembered else (), count=remembered, encoder=encoder
            )
        if result.held:
            self.publish(tenant, EventType.HELD, result.held, encoder=encoder)
        if result.rejected:
            self.publish(tenant, EventType.REJECTED, [image.image_id for image, _ in result.rejected])


def embed(
    encoder: SharedEncoder,
    decoded: Sequence[tuple[StoredImage, PIL.Image.Image]],
    rejected: list[tuple[StoredImage, str]],
    check: Callable[[], object] = lambda: None,
) -> Iterator[tuple[StoredImage, Vectors]]:
    """Embed all images at once; if that fails, one by one, so that only faulty pictures are rejected.

    Args:
        encoder: the encoder.
        decoded: images of one tenant with their pictures.
        rejected: collects images that the encoder fails on, with reasons.
        check: called if the encoder failed on one picture, before it is rejected.

    Yields:
        Each embedded image with its vector, float32 [dimension].

    Raises:
        Unavailable: the encoder is shutting down; no picture is rejected.
    """
    if not decoded:
        return
    images, pictures = zip(*decoded, strict=True)
    try:
        yield from zip(images, encoder.encode(pictures, images[0].tenant), strict=True)
    except Unavailable:
        raise
    except Exception as error:
        if len(images) == 1:
            check()
            rejected.append((images[0], f"the encoder cannot embed it: {error}"))
            return
        log.exception("a batch of %d failed, its pictures are tried one by one", len(images))
        for pair in decoded:
            yield from embed(encoder, [pair], rejected, check)


def _names(images: Sequence[StoredImage]) -> dict[str, object]:
    """The fields that name images of one tenant in logs."""
    return {"tenant": images[0].tenant, "points": [point_id(image.tenant, image.image_id) for image in images]}
