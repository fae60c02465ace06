"""Remember: from waiting points to vectors, and the sweep that finds those that were left behind."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from schemas.errors import DecoderFailed, NotFound, Unavailable, VisualMemoryError
from schemas.image import State, StoredImage, now
from services.curation.objections import Objections
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.infrastructure.task_queue.task_names import URGENT_QUEUE
from services.intake.turns import Turns
from services.memory.memory import Memory
from services.memory.payload import point_id
from services.memory.pictures import Pictures
from services.perception.batching import SharedEncoder
from services.perception.decoder import Decoder
from services.perception.room import Full, Hold
from services.runtime import metrics

SWEEP_LIMIT = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remember:
    """The use case, with the parts that it needs.

    Attributes:
        slice_size: how many images are worked on at once, however many a message names.
        lease: how long an image that was begun is left to the worker that began it.
        max_attempts: how often an image is begun before it is rejected.
        objections: what the neighbours of new images have against their labels.
        turns: the turns of this process' threads.
    """

    memory: Memory
    pictures: Pictures
    encoder: SharedEncoder
    decoder: Decoder
    slice_size: int
    lease: timedelta
    max_attempts: int
    objections: Objections
    turns: Turns = field(default_factory=Turns)

    def __call__(self, tenant: str, image_ids: Sequence[str]) -> None:
        """Give these images their vectors; those that are gone, done or in other hands are passed over.

        An image that was begun before and did not end may be what its worker died of. It is worked on while this
        process has nothing else in its hands, so that it takes none with it, and no other's death counts against it.

        Raises:
            Unavailable: a part does not answer; the images go on waiting and are enqueued again.
        """
        due = [image for image in self.memory.get(tenant, image_ids).values() if self._is_due(image)]
        fresh = [image for image in due if not image.attempts]
        suspects = [image for image in due if image.attempts]
        for start in range(0, len(fresh), self.slice_size):
            left = fresh[start : start + self.slice_size]
            while left:
                with self.turns.together():
                    behind = self._remember(left)
                left = [image for image in left if image.image_id in behind]
        if suspects:
            with self.turns.alone():
                for suspect in sorted(suspects, key=lambda image: image.attempts):
                    self._remember([suspect])

    def _is_due(self, image: StoredImage) -> bool:
        leased = image.begun_at is not None and image.begun_at > now() - self.lease
        return image.state is State.WAITING and not leased

    def _remember(self, due: Sequence[StoredImage]) -> list[str]:
        """Give these images their vectors, up to one that fails the decoder; the ids of those behind it."""
        begun = self.memory.begin(due)
        try:
            with self.decoder.room.hold(due[0].tenant) as hold:
                decoded, behind = self._decode_all(begun, hold)
                begun = [*(image for image, _ in decoded), *behind]  # without the one that failed: its attempt counts
                embedded = list(self._embed(decoded))
                decoded.clear()
            with metrics.stage("remember"):
                images = [image for image, _ in embedded]
                remembered = self._keep(images, [vector for _, vector in embedded]) if images else 0
                self.pictures.drop_pixels(image.picture for image in images)
            self.memory.release(behind)
        except Unavailable:
            self.memory.release(begun)
            raise
        for tenant in {image.tenant for image in images}:
            metrics.REMEMBERED.labels(tenant).inc(remembered)
            log.info("remembered %d", remembered, extra={"tenant": tenant, "points": _points(images)})
        return [image.image_id for image in behind]

    def _keep(self, images: Sequence[StoredImage], rows: Sequence[NDArray[np.float32]]) -> int:
        vectors = np.stack(rows)
        return self.memory.remember(images, vectors, self.objections(images, vectors))

    def _decode_all(
        self, begun: Sequence[StoredImage], hold: Hold
    ) -> tuple[list[tuple[StoredImage, PIL.Image.Image]], Sequence[StoredImage]]:
        """Images with their pictures, up to one that fails the decoder or finds no room, and the images behind it.

        Such a picture may have taken long, and its like may follow; the lease of the others must not end meanwhile.
        """
        decoded: list[tuple[StoredImage, PIL.Image.Image]] = []
        for place, image in enumerate(begun, 1):
            try:
                decoded += self._decode(image, hold)
            except Full:
                return decoded, begun[place - 1 :]
            except DecoderFailed as error:
                named = {"tenant": image.tenant, "points": _points([image])}
                log.warning("attempt %d: %s", image.attempts, error.message, extra=named)
                if image.attempts >= self.max_attempts:
                    self._reject(image, error.message)
                return decoded, begun[place:]  # it is left begun: its lease ends, and the sweep enqueues it again
        return decoded, []

    def _decode(self, image: StoredImage, hold: Hold) -> Iterator[tuple[StoredImage, PIL.Image.Image]]:
        """The image with its picture, or nothing where it had to be rejected."""
        if image.attempts > self.max_attempts:
            self._reject(image, f"gave up after {self.max_attempts} attempts that did not end")
            return
        try:
            with metrics.stage("decode"):
                pixels = self.pictures.pixels(image.picture)
                ready = self.decoder.unpacked(pixels, hold) if pixels else None
                yield image, ready or self.decoder.held(self.pictures.read(image.picture), hold)
        except (Unavailable, DecoderFailed):
            raise
        except NotFound:
            self._reject(image, "its picture is gone from the blob store")
        except VisualMemoryError as error:
            self._reject(image, error.message)

    def _embed(
        self, decoded: Sequence[tuple[StoredImage, PIL.Image.Image]]
    ) -> Iterator[tuple[StoredImage, NDArray[np.float32]]]:
        """Vectors for all at once; where that fails, one by one, so that only the guilty are rejected."""
        if not decoded:
            return
        images, pictures = zip(*decoded, strict=True)
        try:
            yield from zip(images, self.encoder.encode(pictures, images[0].tenant), strict=True)
        except Unavailable:  # the encoder is shutting down, which is none of the pictures' fault
            raise
        except Exception as error:
            if len(images) == 1:
                self._reject(images[0], f"the encoder cannot embed it: {error}")
                return
            log.exception("a batch of %d failed, its pictures are tried one by one", len(images))
            for pair in decoded:
                yield from self._embed([pair])

    def _reject(self, image: StoredImage, reason: str) -> None:
        self.pictures.drop_pixels([image.picture])
        if self.memory.reject(image, reason):
            metrics.REJECTED.labels(image.tenant).inc()
            log.info("rejected", extra={"tenant": image.tenant, "points": _points([image])})


def _points(images: Sequence[StoredImage]) -> list[str]:
    """How logs name images."""
    return [point_id(image.tenant, image.image_id) for image in images]


@dataclass(frozen=True)
class Sweep:
    """Enqueues images that have waited too long: their message was lost, or their worker died.

    It uses a queue of its own, and leaves it alone while it holds messages, for what is overdue is most likely in
    there. What it enqueues may lie in the other queue too, which costs a look at an image that is done by then.
    """

    memory: Memory
    task_queue: TaskQueue
    overdue: timedelta

    def __call__(self) -> int:
        """Enqueue all that is overdue; returns how many that were."""
        if self.task_queue.waiting_messages(URGENT_QUEUE):
            return 0
        enqueued = 0
        for tenant, image_ids in self.memory.overdue(now() - self.overdue, SWEEP_LIMIT).items():
            enqueued += len(image_ids) if self.task_queue.enqueue(tenant, image_ids, URGENT_QUEUE) else 0
        return enqueued
