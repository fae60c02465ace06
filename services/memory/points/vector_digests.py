"""Digests that identify a vector by its direction, whatever its length was when it was sent."""

from hashlib import blake2b

import numpy as np

from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import Vectors

CELL = 2**-11
"""Width of the cells within which two components of unit vectors count as equal."""
OFFSETS = (1 / 8, 3 / 8, 5 / 8, 7 / 8)
"""Offsets of the digests' cells, in cells: a number near a border in one digest is far from one in the others."""
SALTS = tuple(b"%d" % number for number in range(len(OFFSETS)))


def vector_digests(vectors: Vectors) -> list[list[str]]:
    """Digests of each vector; two vectors of the same direction share at least one.

    A multiple of a float32 vector is rounded again, so each component of its direction differs by about 1e-7 of itself.
    A digest differs if that moves one component over a border: with 1,280 components in less than 1 of 50 vectors, and
    in all digests of a vector in less than 1 of 10^6. Vectors of some hundred components that differ by a thousandth in
    each share none, because every component would have to stay within its cell.

    Args:
        vectors: float32 [n, d], finite, no row zero.
    """
    return unit_digests(to_units(vectors))


def unit_digests(units: Vectors) -> list[list[str]]:
    """Digests of vectors that `to_units` has normalised; see `vector_digests`."""
    cells = units / np.float32(CELL)
    rows = [np.floor(cells + np.float32(offset)).astype("<i2") for offset in OFFSETS]
    return [
        [blake2b(row, digest_size=16, salt=salt).hexdigest() for row, salt in zip(each, SALTS, strict=True)]
        for each in zip(*rows, strict=True)
    ]
