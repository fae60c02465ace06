"""Decode the TIFFs whose samples Pillow cannot read, or reads with other values: deep, signed, floating, planar.

libtiff decompresses the strips and tiles as 8-bit grey, by means of a second directory that is appended to the file;
the bytes are converted to samples here.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ExifTags import Base as Tag

from visual_memory.services.decoding.file_formats.tiff import (
    CIELAB,
    FLOAT,
    SIGNED,
    TILE_OFFSETS,
    TILE_WIDTH,
    UNSIGNED,
    Tiff,
    is_big_tiff,
)

_BAND_SAMPLES = 2**18
"""Samples that are converted at once."""
_PREDICTOR, _FILL_ORDER, _TILE_LENGTH, _TILE_BYTE_COUNTS = 317, 266, 323, 325
_COMPRESSIONS_WITH_PREDICTOR = (5, 8, 32946, 34925, 50000)
_MODES = {1: ("L", "LA", "La"), 3: ("RGB", "RGBA", "RGBa"), 4: ("CMYK",) * 3}


def decode_tiff(tiff: Tiff) -> PIL.Image.Image:
    """Decode to 8 bits a channel, in mode L, RGB, CMYK or LAB, or with alpha.

    Unsigned integers of up to 16 bits, and floats from 0 to 1, are black to white. Other numbers have no agreed range:
    the lowest is black and the highest white. The colour profile and the orientation are kept.

    Args:
        tiff: one that `Tiff.why_unsupported` does not refuse.

    Raises:
        ValueError: it is damaged or truncated.
    """
    width, height = tiff.size
    channels = _used_channels(tiff)
    planes = [_read_plane(tiff, plane) for plane in range(min(tiff.planes, channels))]
    low, high = _value_range(tiff, planes)
    shown = np.empty((height, width, channels), np.uint8)
    for top, samples in _bands(tiff, planes):
        shown[top : top + len(samples)] = _to_8_bit(tiff, samples, low, high)
    del planes  # the largest of the arrays
    mode = "LAB" if tiff.photometric == CIELAB else _MODES[tiff.colours][tiff.alpha or 0]
    picture = PIL.Image.frombytes(mode, (width, height), shown.tobytes())
    profile = tiff.tags.get(Tag.InterColorProfile)
    if profile:
        picture.info["icc_profile"] = profile
    picture.getexif()[Tag.Orientation] = tiff.tags.get(Tag.Orientation, 1)
    return picture


def _used_channels(tiff: Tiff) -> int:
    return tiff.colours + (tiff.alpha is not None)


def _bands(tiff: Tiff, planes: Sequence[PIL.Image.Image]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Bands of rows: the first row's number, and samples [rows, width, channels] with the values of the file."""
    width, height = tiff.size
    channels = _used_channels(tiff)
    step = max(1, _BAND_SAMPLES // (width * tiff.channels))
    for top in range(0, height, step):
        end = min(top + step, height)
        parts = [_unpack_samples(tiff, np.asarray(plane.crop((0, top, plane.width, end)))) for plane in planes]
        yield top, np.concatenate(parts, axis=2)[:, :, :channels]


def _read_plane(tiff: Tiff, plane: int) -> PIL.Image.Image:
    """The decompressed bytes of a plane, row by row, as a grey picture."""
    width, height = -(-tiff.size[0] // tiff.tile_width) * tiff.row_bytes, tiff.size[1]
    entries: dict[int, list[int]] = {
        Tag.ImageWidth: [width],
        Tag.ImageLength: [height],
        Tag.BitsPerSample: [8],
        Tag.Compression: [tiff.compression],
        Tag.PhotometricInterpretation: [1],
        Tag.SamplesPerPixel: [1],
    }
    for tag in (Tag.RowsPerStrip, _TILE_LENGTH, _FILL_ORDER):
        if tag in tiff.tags:
            entries[tag] = tiff.values(tag, 0)
    if TILE_OFFSETS in tiff.tags:
        entries[TILE_WIDTH] = [tiff.row_bytes]
    for tag in (Tag.StripOffsets, Tag.StripByteCounts, TILE_OFFSETS, _TILE_BYTE_COUNTS):
        if tag in tiff.tags:
            values = tiff.values(tag, 0)
            per_plane = len(values) // tiff.planes
            entries[tag] = values[plane * per_plane : (plane + 1) * per_plane]
    if Tag.StripOffsets in entries and Tag.StripByteCounts not in entries and tiff.compression == 1:
        rows = tiff.values(Tag.RowsPerStrip, height)[0]
        tops = [strip * rows for strip in range(len(entries[Tag.StripOffsets]))]
        entries[Tag.StripByteCounts] = [width * max(0, min(rows, height - top)) for top in tops]
    data, directory_at = _append_directory(tiff, entries)
    return PIL.Image.frombytes("L", (width, height), data, "libtiff", "L", False, directory_at)


def _append_directory(tiff: Tiff, entries: dict[int, list[int]]) -> tuple[bytes, int]:
    """The same file with another directory at its end, and the directory's offset."""
    data, order = tiff.data, tiff.byte_order
    number, kind, count = ("Q", 16, "Q") if is_big_tiff(data) else ("I", 4, "H")
    size = struct.calcsize(number)
    at = len(data) + -len(data) % 8
    values_at = at + struct.calcsize(order + count) + (4 + 2 * size) * len(entries) + size
    directory, values = struct.pack(order + count, len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}{number}", *numbers)
        inline = packed if len(packed) == size else struct.pack(order + number, values_at + len(values))
        directory += struct.pack(f"{order}HH{number}", tag, kind, len(numbers)) + inline
        values += b"" if len(packed) == size else packed
    whole = [data[:size], struct.pack(order + number, at), data[2 * size :], bytes(at - len(data)), directory]
    return b"".join([*whole, bytes(size), values]), at


def _unpack_samples(tiff: Tiff, packed: NDArray[np.uint8]) -> NDArray[Any]:
    """Convert one plane from [rows, bytes] to [rows, width, channels]; undoes the predictor (TIFF 6.0, section 14)."""
    rows, width, channels, order = len(packed), tiff.size[0], tiff.channels // tiff.planes, tiff.byte_order
    tiles = packed.reshape(rows, -1, tiff.row_bytes)
    predictor = tiff.tags.get(_PREDICTOR, 1) if tiff.compression in _COMPRESSIONS_WITH_PREDICTOR else 1
    if tiff.bits % 8:
        return _unpack_bits(tiles, tiff.bits, tiff.tile_width, channels)[:, :width]
    letter = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[tiff.sample_format]
    kind = np.dtype(f"{order}{letter}{tiff.bits // 8}")
    if predictor == 3:
        sums = tiles.reshape(*tiles.shape[:2], -1, channels).cumsum(axis=2, dtype=np.uint8)
        planes = sums.reshape(*tiles.shape[:2], kind.itemsize, -1)  # the highest bytes of all, then the next
        tiles, kind = np.ascontiguousarray(np.swapaxes(planes, 2, 3)), kind.newbyteorder(">")
        samples = tiles.reshape(*tiles.shape[:2], -1).view(kind)
    elif predictor == 2:
        integer = np.dtype(f"{order}u{kind.itemsize}")
        differences = tiles.view(integer).reshape(*tiles.shape[:2], tiff.tile_width, channels)
        samples = differences.cumsum(axis=2, dtype=integer.newbyteorder("=")).view(kind.newbyteorder("="))
    else:
        samples = tiles.view(kind)
    return samples.reshape(rows, -1, channels)[:, :width]


def _unpack_bits(tiles: NDArray[np.uint8], bits: int, width: int, channels: int) -> NDArray[np.uint16]:
    """Samples of 9 to 15 bits, which are packed without padding."""
    ones = np.unpackbits(tiles, axis=2)[:, :, : width * channels * bits]
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    samples = ones.reshape(len(tiles), -1, bits) @ weights
    return samples.reshape(len(tiles), -1, channels)


def _value_range(tiff: Tiff, planes: Sequence[PIL.Image.Image]) -> tuple[float, float]:
    """The values that become black and white."""
    if tiff.photometric == CIELAB:
        return 0, 0
    if tiff.sample_format == UNSIGNED and tiff.bits <= 16:
        return 0, 2**tiff.bits - 1
    low, high = np.inf, -np.inf
    for _, samples in _bands(tiff, planes):
        numbers = _finite(samples[:, :, : tiff.colours])
        low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    return (0, 1) if tiff.sample_format == FLOAT and low >= 0 and high <= 1 else (low, high)


def _to_8_bit(tiff: Tiff, samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if tiff.photometric == CIELAB:
        return _lab_to_8_bit(samples, tiff.bits)
    span = high - low
    shown = np.rint((_finite(samples) - low) * (255 / span if span else 0))
    if tiff.alpha is not None:
        opaque = 1 if tiff.sample_format == FLOAT else 2 ** (tiff.bits - (tiff.sample_format == SIGNED)) - 1
        shown[:, :, -1] = np.rint(np.clip(_finite(samples[:, :, -1]) / opaque, 0, 1) * 255)
    if tiff.photometric == 0:
        shown[:, :, 0] = 255 - shown[:, :, 0]
    return shown.astype(np.uint8)


def _lab_to_8_bit(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Lightness is unsigned; a and b are signed, with 8 integer bits (TIFF 6.0, section 23)."""
    if bits == 8:
        return samples.astype(np.uint8)
    shown = (samples.astype(np.uint16) >> 8).astype(np.uint8)
    shown[:, :, 0] = np.rint(samples[:, :, 0].astype(np.uint16) / 257)
    return shown


def _finite(samples: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(samples.astype(np.float64), posinf=0.0, neginf=0.0)
