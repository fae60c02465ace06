"""Colour profiles, PNGs with chunks of any kind, and what a viewer shows of colours, by their formulas."""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.decoding.build_icc_profile import CURVE_NODES, build_grey_profile, build_rgb_profile

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SWAPPED = (*D65, 0.30, 0.60, 0.64, 0.33, 0.15, 0.06)
"""The primaries of sRGB, red and green in each other's place."""
P3 = (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
ADOBE = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
BT2020 = (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)


def screen(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def power(exponent: float) -> Curve:
    return lambda signal: signal**exponent


def profile(primaries: Sequence[float], curve: Curve = screen) -> bytes:
    return build_rgb_profile(primaries, curve(np.linspace(0, 1, CURVE_NODES)))


def grey(curve: Curve) -> bytes:
    return build_grey_profile(curve(np.linspace(0, 1, CURVE_NODES)))


def seen(levels: NDArray[np.generic], primaries: Sequence[float], curve: Curve, most: float = 255) -> NDArray[np.uint8]:
    """[..., 3] levels of an RGB space whose white is D65, in sRGB."""
    light = curve(levels.astype(np.float64) / most).clip(0, 1)
    linear = (light @ (np.linalg.inv(_to_xyz(SRGB)) @ _to_xyz(primaries)).T).clip(0, 1)
    shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(shown * 255), np.uint8)


def _to_xyz(primaries: Sequence[float]) -> NDArray[np.float64]:
    white, *rest = (np.array([x, y, 1 - x - y]) / y for x, y in np.reshape(primaries, (4, 2)))
    columns = np.array(rest).T
    return np.asarray(columns * np.linalg.solve(columns, white))


def cmyk_profile(inks: Sequence[tuple[float, float, float]]) -> bytes:
    """A press of four inks, each of which multiplies light as it says (linear sRGB), on white paper."""
    nodes = np.array([[byte >> shift & 1 for shift in (3, 2, 1, 0)] for byte in range(16)])
    light = np.prod(np.where(nodes[:, :, None] == 1, np.array(inks)[None], 1.0), axis=1)
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapt = np.array([[1.0479, 0.0229, -0.0502], [0.0296, 0.9904, -0.0171], [-0.0092, 0.0151, 0.7519]])
    ratios = light @ (adapt @ _to_xyz(SRGB)).T / d50
    roots = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16 / 116)
    lab = np.stack([116 * roots[:, 1] - 16, 500 * (roots[:, 0] - roots[:, 1]), 200 * (roots[:, 1] - roots[:, 2])], 1)
    coded = np.rint(lab * [2.55, 1, 1] + [0, 128, 128]).clip(0, 255).astype(np.uint8)
    ramp = bytes(range(256))
    unit = struct.pack(">9i", *(65536 if place % 4 == 0 else 0 for place in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + ramp * 4 + coded.tobytes() + ramp * 3
    tags = {b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(d50 * 65536).astype(int)), b"A2B0": table}
    places, bodies = b"", b""
    for name, body in tags.items():
        places += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s", 132 + len(places) + len(bodies), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    head += bytes(28) + struct.pack(">3i", *np.rint(d50 * 65536).astype(int))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + places + bodies


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(primaries: Sequence[float]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in primaries)))


def cicp(primaries: int, transfer: int, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, 0, full]))


def png(pixels: NDArray[np.generic], before: Iterable[bytes] = (), after: Iterable[bytes] = ()) -> bytes:
    """[height, width] of grey, or 2 channels (with alpha), 3 or 4, of 8 or 16 bits; with chunks around its pixels."""
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, pixels.dtype.itemsize * 8, kind, 0, 0, 0)
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    body = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    chunks = [chunk(b"IHDR", head), *before, chunk(b"IDAT", body), *after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
