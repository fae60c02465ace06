"""The interface of every encoder, and the check of its vectors."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop

LENGTH_TOLERANCE = 1e-3
"""How far a vector's length may be from 1; float32 vectors of a few thousand dimensions are much closer."""


class EncoderUnusable(VisualMemoryError):
    """The encoder cannot be loaded, or its output is not a unit vector."""

    code = "encoder_unusable"
    title = "Encoder unusable"
    status = 500


class Encoder(Protocol):
    """Pictures to unit vectors. Thread-safe."""

    @property
    def name(self) -> str:
        """Name of the encoder's vectors in the store: letters, digits, ``.``, ``_`` and ``-``.

        Encoders with different vectors have different names.
        """

    @property
    def dimension(self) -> int:
        """Length of a vector, at least 1."""

    @property
    def batch_size(self) -> int:
        """The batch size with the highest throughput, at least 1."""

    @property
    def crop(self) -> PreprocessingCrop:
        """The part of a picture that it needs; no more is decoded for it."""

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            images: n pictures of mode RGB, cropped with the encoder's `crop`; n may be 0.

        Returns:
            float32 [n, dimension], finite, each of length 1 within `LENGTH_TOLERANCE`, in the order of the pictures.

        Raises:
            EncoderUnusable: the model returned something else.
            ValueError: a picture is not cropped as required.
        """


def check_vectors(vectors: NDArray[np.float32], name: str, count: int, dimension: int) -> NDArray[np.float32]:
    """Check that an encoder's output is as `Encoder` promises.

    Args:
        vectors: output of a model, expected to be [count, dimension].
        name: of the encoder, for the message.
        count: number of pictures.
        dimension: of the encoder's vectors.

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
