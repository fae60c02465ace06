"""Read the directory of a TIFF (TIFF 6.0, section 2) and decide whether its samples can be decoded."""

import io
import struct
from dataclasses import dataclass
from functools import cached_property

from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from visual_memory.schemas.errors import UnsupportedFormat
from visual_memory.services.decoding.file_formats.recognise_format import unsupported_format

MAX_BYTES_PER_PIXEL = 32
"""Four channels of 64 bits."""
TILE_WIDTH, TILE_OFFSETS = 322, 324
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
CIELAB = 8
_UNDEFINED = 4
_PLANAR, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _INKS = 284, 338, 339, 332
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}
"""None, LZW, deflate, PackBits, deflate, LZMA and Zstandard: those that support samples of any kind."""
_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4, CIELAB: 3}
"""Colour channels of a photometric interpretation: grey (0 is min-is-white), RGB, CMYK and Lab."""


@dataclass(frozen=True)
class Tiff:
    """The first picture of a TIFF, not decoded.

    Attributes:
        data: the bytes of its file.
        tags: its directory.
    """

    data: bytes
    tags: ImageFileDirectory_v2

    @property
    def size(self) -> tuple[int, int]:
        """Width and height before the orientation is applied, in pixels."""
        return int(self.tags[Tag.ImageWidth]), int(self.tags[Tag.ImageLength])

    @property
    def byte_order(self) -> str:
        """``<`` or ``>``."""
        return byte_order(self.tags)

    @property
    def compression(self) -> int:
        """Tag Compression."""
        return int(self.tags.get(Tag.Compression, 1))

    @property
    def photometric(self) -> int:
        """Tag PhotometricInterpretation; 0: white is 0."""
        return int(self.tags.get(Tag.PhotometricInterpretation, 0))

    @property
    def channels(self) -> int:
        """Samples per pixel, with alpha and other extra samples."""
        return int(self.tags.get(Tag.SamplesPerPixel, 1))

    @property
    def colours(self) -> int:
        """Samples per pixel that are colours."""
        return _COLOURS[self.photometric]

    @property
    def bits(self) -> int:
        """Bits of the largest sample."""
        return max(self._all_bits)

    @property
    def sample_format(self) -> int:
        """`UNSIGNED`, `SIGNED`, `FLOAT` or one that is not supported."""
        return min(self._sample_formats)

    @property
    def alpha(self) -> int | None:
        """1: straight alpha; 2: colours are multiplied by alpha; None: no alpha."""
        extra = self.values(_EXTRA_SAMPLES, 2 if self.photometric == 2 else 0)[:1]
        if self.channels == self.colours or self.photometric in (5, CIELAB) or not extra:
            return None
        return {1: 2, 2: 1}.get(extra[0])

    @property
    def planes(self) -> int:
        """How many planes are stored one after the other; 1: the channels are interleaved."""
        return self.channels if self.tags.get(_PLANAR, 1) == 2 else 1

    @property
    def tile_width(self) -> int:
        """Width of a tile or strip, in pixels."""
        return int(self.tags[TILE_WIDTH]) if TILE_OFFSETS in self.tags else self.size[0]

    @property
    def row_bytes(self) -> int:
        """Length of a row of a tile or strip, in bytes."""
        return -(-self.tile_width * self.channels * self.bits // (8 * self.planes))

    @property
    def is_plain(self) -> bool:
        """Whether all samples are unsigned integers of at most 8 bits, whose values Pillow does not change."""
        return self.bits <= 8 and self._sample_formats == {UNSIGNED}

    def values(self, tag: int, default: int) -> list[int]:
        """The values of a tag."""
        value = self.tags.get(tag, default)
        return [int(each) for each in (value if isinstance(value, tuple) else (value,))] or [default]

    def why_unsupported(self) -> UnsupportedFormat | None:
        """The error if `services.decoding.file_formats.tiff_samples.decode_tiff` does not support the TIFF."""
        if self.compression not in _COMPRESSIONS:
            return unsupported_format(f"a TIFF of {self._description} that is compressed by method {self.compression}")
        too_wide = self.channels * self.bits > 8 * MAX_BYTES_PER_PIXEL
        if self.photometric not in _COLOURS or self.channels < self.colours or too_wide:
            return unsupported_format(f"a TIFF of {self._description}")
        mixed = len(self._all_bits) > 1 or len(self._sample_formats) > 1
        if mixed or self.sample_format not in (UNSIGNED, SIGNED, FLOAT):
            return unsupported_format(f"a TIFF of {self._description}")
        depths = {UNSIGNED: {*range(1, 17), 32, 64}, SIGNED: {8, 16, 32, 64}, FLOAT: {16, 32, 64}}
        known_inks = self.tags.get(_INKS, 1) == 1 and (
            self.photometric < 5 or (self.sample_format == UNSIGNED and self.bits <= 16)
        )
        known_lab = self.photometric != CIELAB or self.bits in (8, 16)
        if self.bits in depths[self.sample_format] and known_inks and known_lab:
            return None
        return unsupported_format(f"a TIFF of {self._description}")

    @cached_property
    def _all_bits(self) -> set[int]:
        return set(self.values(Tag.BitsPerSample, 1))

    @cached_property
    def _sample_formats(self) -> set[int]:
        return set(self.values(_SAMPLE_FORMAT, UNSIGNED)) - {_UNDEFINED} or {UNSIGNED}

    @property
    def _description(self) -> str:
        names = {UNSIGNED: "bits", SIGNED: "signed bits", FLOAT: "floating bits"}
        bits = names.get(self.sample_format, "complex bits")
        return f"{self.channels} x {self.bits} {bits} (photometric interpretation {self.photometric})"


def read_tiff(data: bytes) -> Tiff:
    """Read the first directory of a TIFF.

    Raises:
        Exception: the file is damaged; Pillow's directory reader raises exceptions of any kind.
    """
    tags = ImageFileDirectory_v2(data[:2] + b"\0*" + data[4:8] if data[:2] == b"MM" else b"II*\0" + data[4:8])
    big = is_big_tiff(data)
    if big:
        tags._bigtiff = True  # noqa: SLF001 - Pillow detects it only in little-endian files
    start = struct.unpack(f"{byte_order(tags)}{'Q' if big else 'I'}", data[8:16] if big else data[4:8])
    file = io.BytesIO(data)
    file.seek(start[0])
    tags.load(file)
    return Tiff(data, tags)


def is_big_tiff(data: bytes) -> bool:
    """Whether a file has 64-bit offsets."""
    return 43 in data[2:4]


def byte_order(tags: ImageFileDirectory_v2) -> str:
    """``<`` or ``>``."""
    return str(tags._endian)  # noqa: SLF001 - Pillow has no public name for it
