"""Build ICC profiles (ICC.1) from a white point, primaries and a transfer curve."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_PROFILE_BYTES = 16 * 2**20
"""Larger profiles are ignored; those of printing presses have up to three million bytes."""
CURVE_NODES = 255 * 16 + 1
"""Every 8-bit level is a node of the curve, so that none is interpolated."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def build_rgb_profile(chromaticities: Sequence[float], curve: NDArray[np.float64]) -> bytes:
    """Build the profile of an RGB colour space.

    Args:
        chromaticities: x and y (CIE 1931) of its white, red, green and blue.
        curve: linear light, 0 to 1, of `CURVE_NODES` evenly spaced signals.

    Raises:
        ValueError: the chromaticities define no colour space.
    """
    colorants = _colorants(chromaticities)
    tags = {b"rXYZ": _xyz_tag(colorants[:, 0]), b"gXYZ": _xyz_tag(colorants[:, 1]), b"bXYZ": _xyz_tag(colorants[:, 2])}
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve_tag(curve)))


def build_grey_profile(curve: NDArray[np.float64]) -> bytes:
    """Build the profile of a grey colour space, with a curve as for `build_rgb_profile`."""
    return _profile(b"GRAY", {b"kTRC": _curve_tag(curve)})


def _colorants(chromaticities: Sequence[float]) -> NDArray[np.float64]:
    """XYZ of red, green and blue as columns, adapted to D50 (Bradford)."""
    white, *primaries = np.reshape(np.asarray(chromaticities, np.float64), (4, 2))
    if min(white[1], *(primary[1] for primary in primaries)) <= 0:
        raise ValueError("a chromaticity without light")
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white_xyz = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    try:
        columns = columns * np.linalg.solve(columns, white_xyz)
    except np.linalg.LinAlgError as error:
        raise ValueError("primaries on one line") from error
    cones = _BRADFORD @ white_xyz
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / cones) @ _BRADFORD @ columns
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 8:
        raise ValueError("no space that shows colours")
    return adapted


def _xyz_tag(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve_tag(curve: NDArray[np.float64]) -> bytes:
    nodes = np.rint(np.clip(curve, 0, 1) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(nodes)) + nodes.tobytes()


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz_tag(_D50)} | tags
    table, bodies = b"", b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(
        ">I4xI4s4s4s12x4s", 132 + len(table) + len(bodies), 0x02400000, b"mntr", space, b"XYZ ", b"acsp"
    )
    header += bytes(28) + _xyz_tag(_D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies
