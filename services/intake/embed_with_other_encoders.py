"""Embed new images with the other loaded encoders too, so that a switch of the encoder finds their vectors.

This is optional work: if it fails or takes too long, the image is remembered without these vectors, and the encoder
migration fills them later.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from visual_memory.schemas.image import StoredImage
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.vector_engines.engine_contract import Vectors

SECONDS = 2.0
"""Time limit for all encoders together; a batch that has begun is finished."""
LEFT = "left to be filled by %s: %s"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbedWithOtherEncoders:
    """The use case.

    Attributes:
        encoders: the encoders other than the one that the images are remembered with.
        decoder: crops for that one.
    """

    encoders: Callable[[], Sequence[SharedEncoder]]
    pictures: PictureStore
    decoder: Decoder
    seconds: float = SECONDS

    def __call__(self, images: Sequence[StoredImage], decoded: Sequence[PIL.Image.Image]) -> dict[str, Vectors]:
        """Embed images of one tenant.

        Args:
            images: the images, as their worker has begun them.
            decoded: their pictures, cropped for the encoder that they are remembered with.

        Returns:
            vectors by the encoder's name, each float32 [len(images), dimension]; rows have length 1, or are NaN if
            there is no vector.
        """
        deadline = time.monotonic() + self.seconds
        return {each.name: self._by(each, images, decoded, deadline) for each in self.encoders()}

    def _by(
        self,
        encoder: SharedEncoder,
        images: Sequence[StoredImage],
        decoded: Sequence[PIL.Image.Image],
        deadline: float,
    ) -> Vectors:
        vectors = np.full((len(images), encoder.dimension), np.nan, np.float32)
        ready = [*self._ready(encoder, images, decoded, deadline)]
        for start in range(0, len(ready), encoder.batch_size):
            if time.monotonic() >= deadline:
                break
            rows, pictures = zip(*ready[start : start + encoder.batch_size], strict=True)
            try:
                vectors[list(rows)] = encoder.encode(pictures, images[0].tenant)
            except Exception as error:  # noqa: BLE001 - the images are remembered without these vectors
                log.warning(LEFT, encoder.name, kind(error))
        return vectors

    def _ready(
        self,
        encoder: SharedEncoder,
        images: Sequence[StoredImage],
        decoded: Sequence[PIL.Image.Image],
        deadline: float,
    ) -> Iterator[tuple[int, PIL.Image.Image]]:
        """The pictures cropped for an encoder, with their rows; images that were begun before are skipped."""
        decoder = self.decoder.with_crop(encoder.crop)
        for row, (image, picture) in enumerate(zip(images, decoded, strict=True)):
            if image.attempts > 1:
                continue
            if decoder.crop == self.decoder.crop:
                yield row, picture
            elif time.monotonic() < deadline:
                try:
                    yield row, decoder.decode_one(image.tenant, self.pictures.read(image.picture))
                except Exception as error:  # noqa: BLE001 - as above
                    log.warning(LEFT, encoder.name, kind(error))
