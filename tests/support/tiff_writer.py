"""TIFFs of every kind, written from the specification (TIFF 6.0; technical note 3 for floats), not by a library."""

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NONE, LZW, DEFLATE = 1, 5, 8
_FORMATS = {"u": 1, "i": 2, "f": 3}


@dataclass(frozen=True)
class Written:
    """How a TIFF is written.

    Attributes:
        order: < little-endian, > big-endian.
        photometric: 0 min-is-white, 1 min-is-black, 2 RGB, 5 CMYK, 8 Lab.
        tile: side of its tiles, a multiple of 16; 0: it has strips of two rows.
        compression: none, LZW or deflate.
        predictor: 1 none, 2 differences, 3 differences of a float's bytes.
        planar: whether each channel lies apart.
        extra: what further channels are (tag ExtraSamples).
        bits: of a sample, where they are fewer than those of the array's numbers.
        big: whether its offsets have 64 bits.
        tags: further ones: type and value, by number.
    """

    order: Literal["<", ">"] = "<"
    photometric: int = 1
    tile: int = 0
    compression: int = NONE
    predictor: int = 1
    planar: bool = False
    extra: tuple[int, ...] = ()
    bits: int = 0
    big: bool = False
    tags: tuple[tuple[int, int, bytes], ...] = ()


def tiff(pixels: NDArray[Any], how: Written = Written()) -> bytes:
    """The file of [height, width] or [height, width, channels] numbers."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    height, width, channels = pixels.shape
    bits = how.bits or pixels.dtype.itemsize * 8
    planes = [pixels[:, :, [each]] for each in range(channels)] if how.planar else [pixels]
    parts = [_packed(part, how, bits) for plane in planes for part in _cut(plane, how.tile)]
    tags: dict[int, tuple[int, bytes]] = {number: (kind, value) for number, kind, value in how.tags}

    def tag(number: int, *values: int, kind: str = "H") -> None:
        tags[number] = ({"H": 3, "I": 4}[kind], struct.pack(f"{how.order}{len(values)}{kind}", *values))

    tag(256, width)
    tag(257, height)
    tag(258, *[bits] * channels)
    tag(259, how.compression)
    tag(262, how.photometric)
    tag(277, channels)
    tag(284, 2 if how.planar else 1)
    tag(317, how.predictor)
    tag(339, *[_FORMATS[pixels.dtype.kind]] * channels)
    if how.extra:
        tag(338, *how.extra)
    start = 16 if how.big else 8
    offsets = [start + sum(map(len, parts[:place])) for place in range(len(parts))]
    if how.tile:
        tag(322, how.tile)
        tag(323, how.tile)
    else:
        tag(278, 2)
    tag(324 if how.tile else 273, *offsets, kind="I")
    tag(325 if how.tile else 279, *map(len, parts), kind="I")
    return _file(b"".join(parts), tags, how)


def _cut(plane: NDArray[Any], tile: int) -> list[NDArray[Any]]:
    if not tile:
        return [plane[top : top + 2] for top in range(0, len(plane), 2)]
    height, width = plane.shape[:2]
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    return [
        padded[top : top + tile, left : left + tile] for top in range(0, height, tile) for left in range(0, width, tile)
    ]


def _packed(part: NDArray[Any], how: Written, bits: int) -> bytes:
    rows, _, channels = part.shape
    size = part.dtype.itemsize
    if bits < size * 8:
        weights = np.arange(bits - 1, -1, -1)
        ones = (part[..., None] >> weights & 1).astype(np.uint8).reshape(rows, -1)
        return _compressed(np.packbits(ones, axis=1).tobytes(), how.compression)
    if how.predictor == 2:
        whole = part.view(f"u{size}")
        part = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
    if how.predictor == 3:
        apart = part.astype(part.dtype.newbyteorder(">")).view(np.uint8).reshape(rows, -1, size)
        flat = np.swapaxes(apart, 1, 2).reshape(rows, -1, channels)
        flat = np.concatenate([flat[:, :1], flat[:, 1:] - flat[:, :-1]], axis=1)
        return _compressed(flat.tobytes(), how.compression)
    return _compressed(part.astype(part.dtype.newbyteorder(how.order)).tobytes(), how.compression)


@lru_cache(maxsize=1)  # rows that are alike follow each other
def _compressed(data: bytes, method: int) -> bytes:
    if method == DEFLATE:
        return zlib.compress(data)
    return _lzw(data) if method == LZW else data


def _lzw(data: bytes) -> bytes:
    """Codes of nine bits, and a clear code before there would be longer ones."""
    codes = [256]
    for place, byte in enumerate(data):
        codes.append(byte)
        if place % 200 == 199:
            codes.append(256)
    ones = "".join(f"{code:09b}" for code in [*codes, 257])
    ones += "0" * (-len(ones) % 8)
    return int(ones, 2).to_bytes(len(ones) // 8, "big")


def _file(body: bytes, tags: dict[int, tuple[int, bytes]], how: Written) -> bytes:
    number, count, inline = ("Q", "Q", 8) if how.big else ("I", "H", 4)
    at = (16 if how.big else 8) + len(body)
    at += at % 2
    behind = at + struct.calcsize(how.order + count) + (4 + 2 * inline) * len(tags) + inline
    directory, values = struct.pack(how.order + count, len(tags)), b""
    for name, (kind, value) in sorted(tags.items()):
        length = len(value) // {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}[kind]
        directory += struct.pack(f"{how.order}HH{number}", name, kind, length)
        if len(value) <= inline:
            directory += value.ljust(inline, b"\0")
        else:
            directory += struct.pack(how.order + number, behind + len(values))
            values += value + bytes(len(value) % 2)
    start = b"II" if how.order == "<" else b"MM"
    start += struct.pack(how.order + "H", 43 if how.big else 42)
    start += struct.pack(how.order + "HHQ", 8, 0, at) if how.big else struct.pack(how.order + "I", at)
    return (start + body).ljust(at, b"\0") + directory + bytes(inline) + values
