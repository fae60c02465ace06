"""Further vectors: new images get those of the other encoders too, in the same write, so that a switch finds them.

They are an offer: whatever fails or takes long here leaves an image to the fill, and its acceptance untouched.
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
"""For all encoders together, as the images are in their worker's hands meanwhile; what is begun by then is ended."""
LEFT = "left to be filled by %s: %s"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbedWithOtherEncoders:
    """The use case, with the parts that it needs.

    Attributes:
        encoders: those beside the one that the images are remembered by.
        decoder: makes the view of that one.
    """

    encoders: Callable[[], Sequence[SharedEncoder]]
    pictures: PictureStore
    decoder: Decoder
    seconds: float = SECONDS

    def __call__(self, images: Sequence[StoredImage], decoded: Sequence[PIL.Image.Image]) -> dict[str, Vectors]:
        """The vectors of images of one tenant, by the encoder's name.

        Args:
            images: as they were begun.
            decoded: their pictures, in the view of the encoder that they are remembered by.

        Returns:
            float32 [len(images), dimension] each, rows of length 1, or of NaN where there is none.
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
            except Exception as error:  # noqa: BLE001 - whatever it is, the images are remembered without
                log.warning(LEFT, encoder.name, kind(error))
        return vectors

    def _ready(
        self,
        encoder: SharedEncoder,
        images: Sequence[StoredImage],
        decoded: Sequence[PIL.Image.Image],
        deadline: float,
    ) -> Iterator[tuple[int, PIL.Image.Image]]:
        """The encoder's view of pictures, with the row of each; but what was begun before is not tried here again."""
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
