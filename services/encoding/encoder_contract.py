"""What an encoder is, and the one check that every vector passes."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop

LENGTH_TOLERANCE = 1e-3
"""How far from 1 a vector's length may be: float32 of a few thousand dimensions stays well within."""


class EncoderUnusable(VisualMemoryError):
    """The encoder cannot be loaded, or what it gives is no unit vector."""

    code = "encoder_unusable"
    status = 500


class Encoder(Protocol):
    """Pictures to unit vectors. Safe to call from many threads."""

    @property
    def name(self) -> str:
        """What the encoder's vectors are called in the store: letters, digits, ``.``, ``_`` and ``-``.

        Encoders with different vectors have different names.
        """

    @property
    def dimension(self) -> int:
        """Length of a vector, at least 1."""

    @property
    def batch_size(self) -> int:
        """How many pictures at once are fastest, at least 1."""

    @property
    def crop(self) -> PreprocessingCrop:
        """What it begins with of a picture; whoever decodes one for it makes no more than that."""

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            images: the encoder's `view` of n pictures of mode RGB; n may be 0.

        Returns:
            float32 [n, dimension], finite, each of length 1 within `LENGTH_TOLERANCE`, in the order of the pictures.

        Raises:
            EncoderUnusable: the model gave something else.
            ValueError: a picture is not as its `view` is.
        """


def check_vectors(vectors: NDArray[np.float32], name: str, count: int, dimension: int) -> NDArray[np.float32]:
    """The vectors, if they are what an encoder promises.

    Args:
        vectors: what a model gave, expected to be [count, dimension].
        name: the encoder's, for the sentence.
        count: how many pictures it was given.
        dimension: of its vectors.

    Returns:
        The vectors as float32 [count, dimension].

    Raises:
        EncoderUnusable: wrong shape, a number that is not finite, or a row that is zero or not of length 1.
    """
    if vectors.shape != (count, dimension):
        raise EncoderUnusable(f"{name} gave vectors of shape {vectors.shape} instead of {(count, dimension)}")
    if not np.isfinite(vectors).all():
        raise EncoderUnusable(f"{name} gave a vector with numbers that are not finite")
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths == 0).any():
        raise EncoderUnusable(f"{name} gave a vector that is all zeros; it sees nothing in this picture")
    if (np.abs(lengths - 1) > LENGTH_TOLERANCE).any():
        raise EncoderUnusable(
            f"{name} gave a vector of length {lengths[np.abs(lengths - 1).argmax()]:.4f} instead of 1"
        )
    return np.ascontiguousarray(vectors, np.float32)
