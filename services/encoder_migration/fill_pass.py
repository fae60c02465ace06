"""Embed once all remembered images that lack an encoder's vector, with lower priority than daily work.

The points themselves record the progress: after a crash, any process finds what is left. Several processes may fill at
once, each from a random position; where they meet, both write the same vector.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import PIL.Image

from visual_memory.schemas.encoder import FillSettings
from visual_memory.schemas.errors import DecoderFailed, NotFound, Unavailable, VisualMemoryError
from visual_memory.schemas.image import StoredImage
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.intake.remember_pictures import embed
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.points.page_cursor import random_cursor
from visual_memory.services.vector_engines.engine_contract import Vectors

PARALLEL_SLICES = 6
"""Some are decoded and some written while others are encoded."""
BATCHES = 2
"""Batches of the encoder between two reads of the settings; a pause takes effect after these."""
WRITE_SECONDS = 2.0
"""Vectors are written at least this often, so that a crash loses little and the progress is visible."""
DECODE_ATTEMPTS = 3
"""How often a picture may fail in the decoder before it is given up."""
POLL_SECONDS = 1.0
"""How often a waiting pass reads the settings."""

ReadFillSettings = Callable[[], FillSettings | None]
"""Returns the present settings of an encoder; None: it is not to be filled any more."""


@dataclass
class FillPass:
    """The use case: one pass over all images that lack the vector of one encoder.

    Attributes:
        missing_vectors: of that encoder.
        tenants: lists the tenants with images.
        decoder: decodes with that encoder's crop.
        pool: its threads wait for the decoders.
        slice_size: number of images in a slice, whose pictures are in memory; there are `PARALLEL_SLICES`.
        settings: reads the encoder's settings.
        ended: set when the process ends.
    """

    missing_vectors: MissingVectors
    tenants: Callable[[], list[str]]
    pictures: PictureStore
    encoder: SharedEncoder
    decoder: Decoder
    pool: Executor
    slice_size: int
    settings: ReadFillSettings
    ended: threading.Event
    _in_progress: set[str] = field(default_factory=set, init=False)

    def __call__(self) -> int:
        """Fill until nothing is left, or the encoder is paused or dropped, or the process ends.

        Returns:
            the number of images that got a vector.

        Raises:
            Unavailable: a component does not answer; another pass continues.
        """
        done = 0
        slices: deque[Future[int]] = deque()
        with ThreadPoolExecutor(PARALLEL_SLICES, "fill", initializer=cpu_threads.lower_priority) as threads:
            for images in self._slices():
                slices.append(threads.submit(self._fill, images))
                while len(slices) >= (PARALLEL_SLICES if self._share() == 1 else 1):
                    done += slices.popleft().result()
        return done + sum(each.result() for each in slices)

    def _slices(self) -> Iterator[list[StoredImage]]:
        """Images without a vector, round-robin by tenant: from a random position to the end, then from the start."""
        tenants = self.tenants()
        random.shuffle(tenants)
        cursors: deque[tuple[str, str | None, bool]] = deque((tenant, random_cursor(), False) for tenant in tenants)
        while cursors and self._continues():
            tenant, cursor, restarted = cursors.popleft()
            images, following = self.missing_vectors.page(tenant, self.slice_size, cursor)
            if following is not None or not restarted:
                cursors.append((tenant, following, restarted or following is None))
            if due := [image for image in images if image.picture not in self._in_progress]:
                self._in_progress.update(image.picture for image in due)
                yield due

    def _continues(self) -> bool:
        settings = None if self.ended.is_set() else self.settings()
        return settings is not None and not settings.paused

    def _share(self) -> float:
        return (self.settings() or FillSettings()).share

    def _rest(self, worked: float) -> None:
        """Wait so long that the work took only its share of the time."""
        share = self._share()
        until = time.monotonic() + worked * (1 - share) / share
        while (left := until - time.monotonic()) > 0 and self._continues():
            self.ended.wait(min(left, POLL_SECONDS))

    def _fill(self, images: Sequence[StoredImage]) -> int:
        """Embed images of one tenant and write their vectors; returns how many got one."""
        begun = written_at = time.monotonic()
        done = 0
        pairs: list[tuple[StoredImage, PIL.Image.Image]] = []
        failed: list[tuple[StoredImage, str]] = []
        encoded: list[tuple[StoredImage, Vectors]] = []
        try:
            for image, decoded in zip(images, self.pool.map(self._decode, images), strict=True):
                if isinstance(decoded, str):
                    failed.append((image, decoded))
                elif decoded is not None:
                    pairs.append((image, decoded))
            while pairs and self._continues():
                size = BATCHES * self.encoder.batch_size
                encoded += embed(self.encoder, pairs[:size], failed, self._check_encoder)
                del pairs[:size]
                if time.monotonic() - written_at >= WRITE_SECONDS:
                    done, written_at = done + self._write(encoded), time.monotonic()
                self._rest(time.monotonic() - begun)
                begun = time.monotonic()
            for image, reason in failed:
                self.missing_vectors.give_up([image], reason)
            return done + self._write(encoded)
        finally:
            self._in_progress.difference_update(image.picture for image in images)

    def _write(self, encoded: list[tuple[StoredImage, Vectors]]) -> int:
        """Write vectors and clear the list; returns how many there were."""
        number = len(encoded)
        if encoded:
            self.missing_vectors.store([image for image, _ in encoded], np.stack([vector for _, vector in encoded]))
            encoded.clear()
        return number

    def _decode(self, image: StoredImage) -> PIL.Image.Image | str | None:
        """The cropped picture of an image; the reason if it has none; None if the pass does not continue."""
        if not self._continues():
            return None
        try:
            picture = self.pictures.read(image.picture)
            for _ in range(DECODE_ATTEMPTS - 1):
                try:
                    return self.decoder.decode_one(image.tenant, picture)
                except DecoderFailed:
                    continue
            return self.decoder.decode_one(image.tenant, picture)
        except NotFound:
            return "its picture is gone from the blob store"
        except Unavailable:
            raise
        except VisualMemoryError as error:
            return error.message

    def _check_encoder(self) -> None:
        """Embed a test picture; if that succeeds, a picture that failed is itself the cause.

        Raises:
            Unavailable: the encoder fails on any picture, for example for lack of memory.
        """
        test_picture = self.encoder.crop.apply(PIL.Image.radial_gradient("L").convert("RGB"))
        try:
            self.encoder.encode([test_picture])
        except Exception as error:
            raise Unavailable(f"the encoder fails on any picture: {kind(error)}") from error
