"""Remember: from waiting points to vectors, slice by slice, and the sweep that finds tenants without a message."""

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
from visual_memory.schemas.image import StoredImage, point_id
from visual_memory.services.curation.check_labels import CheckLabels
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.store_embeddings import NotRemembered
from visual_memory.services.vector_engines.engine_contract import Vectors

ALONE_SECONDS = 0.5
"""So long an image that was begun before waits for another such one; then its tenant takes a further turn."""
SLICE_SECONDS = 2.0
"""A slice that has taken so long to decode ends, so that other tenants get their turns and no lease ends meanwhile."""

Further = Callable[[Sequence[StoredImage], Sequence[PIL.Image.Image]], Mapping[str, Vectors]]
"""Makes the vectors of images by other encoders; see `services.intake.embed_with_other_encoders`."""

log = logging.getLogger(__name__)


def nothing_further(_images: Sequence[StoredImage], _decoded: Sequence[PIL.Image.Image]) -> Mapping[str, Vectors]:
    """What other encoders make of images where there are none."""
    return {}


@dataclass
class _Slice:
    """Images that were begun together, and what becomes of them.

    Attributes:
        behind: those that were not come to.
        decoded: those that were, with their pictures.
        failed: those that failed the decoder; they stay begun, so that it counts.
        rejected: those to give up, with reasons.
        postponed: those whose pictures cannot be had at the moment.
    """

    behind: Sequence[StoredImage]
    decoded: list[tuple[StoredImage, PIL.Image.Image]] = field(default_factory=list)
    failed: list[StoredImage] = field(default_factory=list)
    rejected: list[tuple[StoredImage, str]] = field(default_factory=list)
    postponed: list[StoredImage] = field(default_factory=list)


@dataclass(frozen=True)
class RememberPictures:
    """The use case, with the parts that it needs.

    Attributes:
        enqueue: tells the workers that a tenant has work; may fail quietly.
        slice_size: how many images are worked on at once.
        lease: how long an image that was begun is left to the worker that began it.
        max_attempts: how often an image is begun before it is rejected.
        check_labels: compares labels with the vote of the neighbours.
        further: makes the vectors of other encoders.
        slice_seconds: how long a slice may be decoded before it ends where it is.
        alone: held while an image is worked on that was begun before.
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
    further: Further = nothing_further
    slice_seconds: float = SLICE_SECONDS
    alone: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def __call__(self, tenant: str) -> None:
        """Give a slice of a tenant's oldest waiting images their vectors; with more of them, it is enqueued again.

        That comes before the pictures are decoded, so that other workers go on with this tenant meanwhile, and after
        all other tenants in the queue, so that each gets its turn.

        An image that was begun before and did not end is a slice of its own, and the only such one in this process, for
        another death may follow: it is to count against no other that may have been begun beside the one that killed.

        Raises:
            Unavailable: a part does not answer; the images go on waiting, and the sweep enqueues the tenant.
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
        """Begin images, and end those that were begun."""
        begun = self.memory.leases.begin(images)
        if more:
            self.enqueue(tenant)
        if not begun:
            return
        result = _Slice(begun)
        try:
            self._decode_all(begun, result)
            embedded = list(embed(self.encoder, result.decoded, result.rejected))
            further = self._further(result, embedded)
            result.decoded.clear()
            remembered = self._finish(result, embedded, further)
        except Unavailable:
            self.memory.leases.release([image for image in begun if image not in result.failed])
            raise
        self._report(tenant, remembered, [image for image, _ in embedded], result)
        if result.behind:
            self.enqueue(tenant)

    def _decode_all(self, begun: Sequence[StoredImage], result: _Slice) -> None:
        """Decode images, up to one that fails the decoder; or until time is up.

        One that cannot be read holds up none of the others, unless the store of all pictures does not answer.
        Where one took long its like may follow, and the lease of the others must not end meanwhile.
        """
        deadline = time.monotonic() + self.slice_seconds
        for place, image in enumerate(begun, 1):
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
            result.behind = begun[place:]
            if ended:
                return

    def _decode(self, image: StoredImage, result: _Slice) -> None:
        """Add the image with its picture to what is decoded, or with a reason to what is rejected."""
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

    def _further(
        self, result: _Slice, embedded: Sequence[tuple[StoredImage, NDArray[np.float32]]]
    ) -> Mapping[str, Vectors]:
        """What other encoders make of the images that are about to be remembered."""
        decoded = {image.picture: picture for image, picture in result.decoded}
        images = [image for image, _ in embedded]
        return self.further(images, [decoded[image.picture] for image in images]) if images else {}

    def _finish(
        self,
        result: _Slice,
        embedded: Sequence[tuple[StoredImage, NDArray[np.float32]]],
        further: Mapping[str, Vectors],
    ) -> int:
        """Write what became of the slice; how many images are remembered now."""
        images = [image for image, _ in embedded]
        vectors = np.array([vector for _, vector in embedded], np.float32).reshape(len(images), self.memory.dimension)
        others = NotRemembered(result.rejected, result.behind, result.postponed)
        with prometheus_metrics.stage("remember"):
            remembered = self.memory.embeddings.store(
                images, vectors, self.check_labels(images, vectors), others, further
            )
            ended = [*images, *(image for image, _ in result.rejected)]
            self.pictures.drop_pixels(image.picture for image in ended)
        return remembered

    def _report(self, tenant: str, remembered: int, images: Sequence[StoredImage], result: _Slice) -> None:
        if images:
            prometheus_metrics.REMEMBERED.labels(tenant).inc(remembered)
            log.info("remembered %d", remembered, extra=_names(images))
        if rejected := [image for image, _ in result.rejected]:
            prometheus_metrics.REJECTED.labels(tenant).inc(len(rejected))
            log.info("rejected %d", len(rejected), extra=_names(rejected))


def embed(
    encoder: SharedEncoder,
    decoded: Sequence[tuple[StoredImage, PIL.Image.Image]],
    rejected: list[tuple[StoredImage, str]],
    check: Callable[[], object] = lambda: None,
) -> Iterator[tuple[StoredImage, Vectors]]:
    """Vectors for all at once; where that fails, one by one, so that only the guilty are rejected.

    Args:
        encoder: makes them.
        decoded: images of one tenant with their pictures.
        rejected: gets those that the encoder fails on, with reasons.
        check: called where it failed on one, before that is held against the picture.

    Yields:
        Each image that could be embedded with its vector, float32 [dimension].

    Raises:
        Unavailable: the encoder is shutting down, which is none of the pictures' fault.
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
    """How logs name images of one tenant."""
    return {"tenant": images[0].tenant, "points": [point_id(image.tenant, image.image_id) for image in images]}
