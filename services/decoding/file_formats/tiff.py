"""TIFFs whose samples Pillow does not read, or reads as other numbers than they are: deep, signed, floating, planar.

libtiff unpacks their strips and tiles as plain bytes, by a directory of ours (TIFF 6.0, section 2); what the bytes mean
is worked out here.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from visual_memory.schemas.errors import UnsupportedFormat
from visual_memory.services.decoding.file_formats.recognise_format import unsupported_format

MAX_BYTES_PER_PIXEL = 32
"""Of one pixel: of four channels of 64 bits."""
_BAND = 2**18
"""Samples that are worked on at once."""
_PLANAR, _PREDICTOR, _FILL_ORDER = 284, 317, 266
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _INKS = 338, 339, 332
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}
"""None, LZW, deflate, PackBits, deflate, LZMA and Zstandard: all that keep samples of any kind."""
_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4, 8: 3}
"""How many channels a photometric interpretation has: grey (0 is min-is-white), RGB, CMYK and Lab."""
_MODES = {1: ("L", "LA", "La"), 3: ("RGB", "RGBA", "RGBa"), 4: ("CMYK",) * 3}
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4


@dataclass(frozen=True)
class Tiff:
    """The first picture of a TIFF.

    Attributes:
        data: the bytes of its file.
        tags: its directory.
    """

    data: bytes
    tags: ImageFileDirectory_v2

    @property
    def size(self) -> tuple[int, int]:
        """Width and height before it is turned upright, in pixels."""
        return int(self.tags[Tag.ImageWidth]), int(self.tags[Tag.ImageLength])

    @cached_property
    def bits(self) -> set[int]:
        """How many bits samples have."""
        return set(self._many(Tag.BitsPerSample, 1))

    @cached_property
    def kinds(self) -> set[int]:
        """What samples are, by tag SampleFormat."""
        return set(self._many(_SAMPLE_FORMAT, _UNSIGNED)) - {_UNDEFINED} or {_UNSIGNED}

    @property
    def is_plain(self) -> bool:
        """Whether its samples are unsigned numbers of at most 8 bits, which Pillow reads as they are."""
        return max(self.bits) <= 8 and self.kinds == {_UNSIGNED}

    def refuse(self) -> UnsupportedFormat | None:
        """Why it is not read by `picture`, if it is not."""
        if self._compression not in _COMPRESSIONS:
            return unsupported_format(f"a TIFF of {self._said} that is compressed by method {self._compression}")
        wide = self._channels * max(self.bits) > 8 * MAX_BYTES_PER_PIXEL
        if self._photometric not in _COLOURS or self._channels < self._colours or wide:
            return unsupported_format(f"a TIFF of {self._said}")
        if len(self.bits) > 1 or len(self.kinds) > 1 or self._kind not in (_UNSIGNED, _SIGNED, _FLOAT):
            return unsupported_format(f"a TIFF of {self._said}")
        deep = {_UNSIGNED: {*range(1, 17), 32, 64}, _SIGNED: {8, 16, 32, 64}, _FLOAT: {16, 32, 64}}[self._kind]
        inks = self.tags.get(_INKS, 1) == 1 and (
            self._photometric < 5 or (self._kind == _UNSIGNED and self._bits <= 16)
        )
        lab = self._photometric != 8 or self._bits in (8, 16)
        return None if self._bits in deep and inks and lab else unsupported_format(f"a TIFF of {self._said}")

    def picture(self) -> PIL.Image.Image:
        """Its pixels in 8 bits a channel, in mode L, RGB, CMYK or LAB, or with alpha.

        Unsigned numbers of up to 16 bits, and floats from 0 to 1, are black to white. Other numbers have no agreed
        range: the lowest is black and the highest white. Its colour profile is kept, and its orientation.

        Raises:
            ValueError: it is damaged, or ends too early.
        """
        width, height = self.size
        channels = self._colours + (self._alpha is not None)
        planes = [self._plane(plane) for plane in range(min(self._planes, channels))]
        low, high = self._range(planes)
        shown = np.empty((height, width, channels), np.uint8)
        for top, samples in self._bands(planes):
            shown[top : top + len(samples)] = self._as_shown(samples, low, high)
        del planes  # they are the largest part
        mode = "LAB" if self._photometric == 8 else _MODES[self._colours][self._alpha or 0]
        picture = PIL.Image.frombytes(mode, (width, height), shown.tobytes())
        profile = self.tags.get(Tag.InterColorProfile)
        if profile:
            picture.info["icc_profile"] = profile
        picture.getexif()[Tag.Orientation] = self.tags.get(Tag.Orientation, 1)
        return picture

    @property
    def _said(self) -> str:
        kind = {_UNSIGNED: "bits", _SIGNED: "signed bits", _FLOAT: "floating bits"}.get(self._kind, "complex bits")
        return f"{self._channels} x {max(self.bits)} {kind} (photometric interpretation {self._photometric})"

    @property
    def _compression(self) -> int:
        return int(self.tags.get(Tag.Compression, 1))

    @property
    def _photometric(self) -> int:
        return int(self.tags.get(Tag.PhotometricInterpretation, 0))

    @property
    def _channels(self) -> int:
        return int(self.tags.get(Tag.SamplesPerPixel, 1))

    @property
    def _colours(self) -> int:
        return _COLOURS[self._photometric]

    @property
    def _bits(self) -> int:
        return max(self.bits)

    @property
    def _kind(self) -> int:
        return min(self.kinds)

    @property
    def _alpha(self) -> int | None:
        """1: there is transparency, and it is straight; 2: colours are multiplied by it; None: there is none."""
        extra = self._many(_EXTRA_SAMPLES, 2 if self._photometric == 2 else 0)[:1]
        if self._channels == self._colours or self._photometric in (5, 8) or not extra:
            return None
        return {1: 2, 2: 1}.get(extra[0])

    def _many(self, tag: int, default: int) -> list[int]:
        value = self.tags.get(tag, default)
        return [int(each) for each in (value if isinstance(value, tuple) else (value,))] or [default]

    @property
    def _planes(self) -> int:
        return self._channels if self.tags.get(_PLANAR, 1) == 2 else 1

    @property
    def _unit(self) -> int:
        """Width of a tile or strip, in pixels."""
        return int(self.tags[_TILE_WIDTH]) if _TILE_OFFSETS in self.tags else self.size[0]

    @property
    def _unit_bytes(self) -> int:
        """Length of a row of a tile or strip, in bytes."""
        return -(-self._unit * self._channels * self._bits // (8 * self._planes))

    def _bands(self, planes: Sequence[PIL.Image.Image]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Some rows at a time: the first one's number, and [rows, width, channels] as they are in the file."""
        width, height = self.size
        wanted = self._colours + (self._alpha is not None)
        step = max(1, _BAND // (width * self._channels))
        for top in range(0, height, step):
            end = min(top + step, height)
            parts = [self._samples(np.asarray(plane.crop((0, top, plane.width, end)))) for plane in planes]
            yield top, np.concatenate(parts, axis=2)[:, :, :wanted]

    def _plane(self, plane: int) -> PIL.Image.Image:
        """The bytes of a plane, row by row, as a grey picture."""
        width = -(-self.size[0] // self._unit) * self._unit_bytes
        entries: dict[int, list[int]] = {
            Tag.ImageWidth: [width],
            Tag.ImageLength: [self.size[1]],
            Tag.BitsPerSample: [8],
            Tag.Compression: [self._compression],
            Tag.PhotometricInterpretation: [1],
            Tag.SamplesPerPixel: [1],
        }
        for tag in (Tag.RowsPerStrip, _TILE_LENGTH, _FILL_ORDER):
            if tag in self.tags:
                entries[tag] = self._many(tag, 0)
        if _TILE_OFFSETS in self.tags:
            entries[_TILE_WIDTH] = [self._unit_bytes]
        for tag in (Tag.StripOffsets, Tag.StripByteCounts, _TILE_OFFSETS, _TILE_COUNTS):
            if tag in self.tags:
                places = self._many(tag, 0)
                each = len(places) // self._planes
                entries[tag] = places[plane * each : (plane + 1) * each]
        if Tag.StripOffsets in entries and Tag.StripByteCounts not in entries and self._compression == 1:
            rows = self._many(Tag.RowsPerStrip, self.size[1])[0]
            tops = [each * rows for each in range(len(entries[Tag.StripOffsets]))]
            entries[Tag.StripByteCounts] = [width * max(0, min(rows, self.size[1] - top)) for top in tops]
        data, at = _described(self.data, entries, _order(self.tags))
        return PIL.Image.frombytes("L", (width, self.size[1]), data, "libtiff", "L", False, at)

    def _samples(self, packed: NDArray[np.uint8]) -> NDArray[Any]:
        """[rows, bytes] of one plane as [rows, width, channels], with no predictor (TIFF 6.0, section 14)."""
        rows, channels, order = len(packed), self._channels // self._planes, _order(self.tags)
        units = packed.reshape(rows, -1, self._unit_bytes)
        predictor = self.tags.get(_PREDICTOR, 1) if self._compression in (5, 8, 32946, 34925, 50000) else 1
        if self._bits % 8:
            return _narrow(units, self._bits, self._unit, channels)[:, : self.size[0]]
        letter = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[self._kind]
        kind = np.dtype(f"{order}{letter}{self._bits // 8}")
        if predictor == 3:
            sums = units.reshape(*units.shape[:2], -1, channels).cumsum(axis=2, dtype=np.uint8)
            planes = sums.reshape(*units.shape[:2], kind.itemsize, -1)  # the highest bytes of all, then the next
            units, kind = np.ascontiguousarray(np.swapaxes(planes, 2, 3)), kind.newbyteorder(">")
            samples = units.reshape(*units.shape[:2], -1).view(kind)
        elif predictor == 2:
            whole = np.dtype(f"{order}u{kind.itemsize}")
            steps = units.view(whole).reshape(*units.shape[:2], self._unit, channels)
            samples = steps.cumsum(axis=2, dtype=whole.newbyteorder("=")).view(kind.newbyteorder("="))
        else:
            samples = units.view(kind)
        return samples.reshape(rows, -1, channels)[:, : self.size[0]]

    def _range(self, planes: Sequence[PIL.Image.Image]) -> tuple[float, float]:
        """What is shown as black and as white."""
        if self._photometric == 8:
            return 0, 0
        if self._kind == _UNSIGNED and self._bits <= 16:
            return 0, 2**self._bits - 1
        low, high = np.inf, -np.inf
        for _, samples in self._bands(planes):
            numbers = _finite(samples[:, :, : self._colours])
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
        return (0, 1) if self._kind == _FLOAT and low >= 0 and high <= 1 else (low, high)

    def _as_shown(self, samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
        if self._photometric == 8:
            return _lab(samples, self._bits)
        span = high - low
        shown = np.rint((_finite(samples) - low) * (255 / span if span else 0))
        if self._alpha is not None:
            most = 1 if self._kind == _FLOAT else 2 ** (self._bits - (self._kind == _SIGNED)) - 1
            shown[:, :, -1] = np.rint(np.clip(_finite(samples[:, :, -1]) / most, 0, 1) * 255)
        if self._photometric == 0:
            shown[:, :, 0] = 255 - shown[:, :, 0]
        return shown.astype(np.uint8)


def read_tiff(data: bytes) -> Tiff:
    """The first directory of a TIFF.

    Raises:
        Exception: it is damaged; any, as Pillow's reader of directories.
    """
    tags = ImageFileDirectory_v2(data[:2] + b"\0*" + data[4:8] if data[:2] == b"MM" else b"II*\0" + data[4:8])
    big = 43 in data[2:4]
    if big:
        tags._bigtiff = True  # noqa: SLF001 - by itself Pillow finds it only where the lowest byte comes first
    start = struct.unpack(f"{_order(tags)}{'Q' if big else 'I'}", data[8:16] if big else data[4:8])
    file = io.BytesIO(data)
    file.seek(start[0])
    tags.load(file)
    return Tiff(data, tags)


def _order(tags: ImageFileDirectory_v2) -> str:
    return str(tags._endian)  # noqa: SLF001 - Pillow tells it nowhere else


def _described(data: bytes, entries: dict[int, list[int]], order: str) -> tuple[bytes, int]:
    """The same file with another directory behind it, and where that begins."""
    big = 43 in data[2:4]
    number, kind, count = ("Q", 16, "Q") if big else ("I", 4, "H")
    size = struct.calcsize(number)
    at = len(data) + -len(data) % 8
    behind = at + struct.calcsize(order + count) + (4 + 2 * size) * len(entries) + size
    directory, values = struct.pack(order + count, len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}{number}", *numbers)
        inline = packed if len(packed) == size else struct.pack(order + number, behind + len(values))
        directory += struct.pack(f"{order}HH{number}", tag, kind, len(numbers)) + inline
        values += b"" if len(packed) == size else packed
    whole = [data[:size], struct.pack(order + number, at), data[2 * size :], bytes(at - len(data)), directory]
    return b"".join([*whole, bytes(size), values]), at


def _finite(samples: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(samples.astype(np.float64), posinf=0.0, neginf=0.0)


def _narrow(units: NDArray[np.uint8], bits: int, width: int, channels: int) -> NDArray[np.uint16]:
    """Samples of 9 to 15 bits, which lie side by side."""
    ones = np.unpackbits(units, axis=2)[:, :, : width * channels * bits]
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    samples = ones.reshape(len(units), -1, bits) @ weights
    return samples.reshape(len(units), -1, channels)


def _lab(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Lightness is unsigned; a and b are signed, with 8 bits before the point (TIFF 6.0, section 23)."""
    if bits == 8:
        return samples.astype(np.uint8)
    shown = (samples.astype(np.uint16) >> 8).astype(np.uint8)
    shown[:, :, 0] = np.rint(samples[:, :, 0].astype(np.uint16) / 257)
    return shown
