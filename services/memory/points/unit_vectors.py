"""Normalise vectors to length 1, and check them: engines accept NaN, zero and any length without an error."""

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.errors import InvalidVector
from visual_memory.services.vector_engines.engine_contract import Vectors

UNIT = 1e-3
"""Tolerance of a vector's length around 1; rounding to float32 stays a hundred times below it."""


def check_queries(vectors: Vectors, dimension: int) -> None:
    """Check vectors to search for.

    Args:
        vectors: must be float32 [n, dimension], finite, no row zero.
        dimension: length of the collection's vectors.

    Raises:
        InvalidVector: they are anything else; the message says what.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dimension or vectors.dtype != np.float32:
        raise InvalidVector(f"vectors must be float32 [n, {dimension}], not {vectors.dtype} {list(vectors.shape)}")
    if not np.isfinite(vectors).all():
        raise InvalidVector("a vector must hold finite numbers only")
    if not vectors.any(axis=1).all():
        raise InvalidVector("a vector must not be zero: it has no direction")


def to_units(vectors: NDArray[np.float32] | NDArray[np.float64]) -> Vectors:
    """Normalise vectors to length 1, float32 [n, d].

    Args:
        vectors: [n, d].

    Raises:
        InvalidVector: one is zero or not finite; the message has its position, counted from 0.
    """
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise InvalidVector(f"vector {bad[0]} is zero or not finite, and so has no direction to compare")
    unit: Vectors = (exact / norms).astype(np.float32)
    return unit


def check_units(vectors: Vectors, rows: int, dimension: int) -> None:
    """Check vectors to store.

    Args:
        vectors: must be float32 [rows, dimension], finite, each row of length 1.
        rows: required number of vectors.
        dimension: length of the collection's vectors.

    Raises:
        InvalidVector: they are anything else; the message says what.
    """
    check_queries(vectors, dimension)
    if len(vectors) != rows:
        raise InvalidVector(f"{rows} images need {rows} vectors, not {len(vectors)}")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if (np.abs(lengths - 1) > UNIT).any():
        raise InvalidVector("a vector must have length 1")
