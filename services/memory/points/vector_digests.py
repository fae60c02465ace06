"""Digests by which a vector is known again, however long it was when it was sent."""

from hashlib import blake2b

import numpy as np

from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import Vectors

CELL = 2**-11
"""The width of a cell in which two numbers of vectors of length 1 count as the same."""
OFFSETS = (1 / 8, 3 / 8, 5 / 8, 7 / 8)
"""Where the cells of each digest begin, in cells: a number near the border of one is far from those of the others."""
SALTS = tuple(b"%d" % number for number in range(len(OFFSETS)))


def vector_digests(vectors: Vectors) -> list[list[str]]:
    """For each vector some digests, of which two vectors share one where they point the same way.

    A multiple of a float32 vector is rounded once more, so that each number of its direction differs by some 1e-7 of
    itself. A digest differs where that takes one of them over a border, which for 1,280 numbers happens in less than 1
    of 50 vectors, and to all digests of one in less than 1 of 10^6. Vectors of some hundred numbers that differ by a
    thousandth in each share none: each number would have to stay within its cell.

    Args:
        vectors: float32 [n, d], finite, no row zero.
    """
    return unit_digests(to_units(vectors))


def unit_digests(units: Vectors) -> list[list[str]]:
    """The digests of vectors that `to_units` brought to length 1; see `vector_digests`."""
    cells = units / np.float32(CELL)
    rows = [np.floor(cells + np.float32(offset)).astype("<i2") for offset in OFFSETS]
    return [
        [blake2b(row, digest_size=16, salt=salt).hexdigest() for row, salt in zip(each, SALTS, strict=True)]
        for each in zip(*rows, strict=True)
    ]
