"""Vectors that can be compared: an engine takes NaN, zero and any length without a word, so they are checked here."""

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.errors import InvalidVector
from visual_memory.services.vector_engines.engine_contract import Vectors

UNIT = 1e-3
"""How far a vector's length may be from 1; float32 rounding stays a hundred times below it."""


def check_queries(vectors: Vectors, dimension: int) -> None:
    """Refuse what cannot be searched for.

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
    """Vectors brought to length 1, float32 [n, d].

    Args:
        vectors: [n, d].

    Raises:
        InvalidVector: one is zero or not finite; the message names its place, counted from 0.
    """
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise InvalidVector(f"vector {bad[0]} is zero or not finite, and so has no direction to compare")
    unit: Vectors = (exact / norms).astype(np.float32)
    return unit


def check_units(vectors: Vectors, rows: int, dimension: int) -> None:
    """Refuse what cannot be remembered.

    Args:
        vectors: must be float32 [rows, dimension], finite, each row of length 1.
        rows: how many there must be.
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
