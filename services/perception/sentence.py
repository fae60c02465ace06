"""A sentence-transformers model as an `Encoder`."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from services.perception.encoder import checked


class SentenceEncoder:
    """Embeds pictures with a model that takes them.

    Attributes:
        name: as in `Encoder`.
        dimension: as in `Encoder`; found by embedding a picture.
        side: as in `Encoder`.
    """

    def __init__(self, model: SentenceTransformer, name: str, batch_size: int, side: int = 0) -> None:
        self.name = name
        self.side = side
        self._model = model.eval()
        self._batch_size = batch_size
        self.dimension = self._embed([PIL.Image.radial_gradient("L").convert("RGB")]).shape[1]

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        """As in `Encoder`."""
        vectors = self._embed(images) if images else np.empty((0, self.dimension), np.float32)
        return checked(vectors, self.name, len(images), self.dimension)

    def _embed(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        vectors = self._model.encode(list(images), batch_size=self._batch_size, show_progress_bar=False)
        # A convolutional network's pooler leaves a picture of 1 x 1; half precision is too coarse for unit length.
        rows: NDArray[np.float32] = vectors.reshape(len(images), -1).astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(lengths > 0, lengths, 1)  # a zero row stays, for the check to name
        return rows
