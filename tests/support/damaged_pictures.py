"""Pictures that are nearly whole: real files of every format, changed in the ways that break readers."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
from hypothesis import strategies as st
from PIL import ImageDraw

from tests.support.colour_profiles import (
    SWAPPED,
    chrm,
    chunk,
    cicp,
    cmyk_profile,
    gama,
    grey,
    iccp,
    png,
    profile,
    screen,
)
from tests.support.tiff_writer import DEFLATE, LZW, Written, tiff
from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.file_formats import heif  # noqa: F401 - it registers the reader and writer of HEIC

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PNG = b"\x89PNG\r\n\x1a\n"


def quarters() -> PIL.Image.Image:
    """Red, green over blue, white: any turn or flip of it looks different."""
    picture = PIL.Image.new("RGB", (48, 32), RED)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((24, 0, 47, 15), GREEN)
    draw.rectangle((0, 16, 23, 31), BLUE)
    draw.rectangle((24, 16, 47, 31), WHITE)
    return picture


def packed(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def _seeds() -> Iterator[bytes]:
    picture, deep = quarters(), PIL.Image.fromarray(np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 42)
    frames = [PIL.Image.new("RGB", (48, 32), colour) for colour in (GREEN, BLUE)]
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    clear = picture.convert("RGBA")
    clear.putalpha(PIL.Image.linear_gradient("L").resize(clear.size))
    for kind in KINDS:
        yield packed(picture, kind)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"):
        yield packed(picture, kind, exif=exif.tobytes())
        yield packed(picture, kind, icc_profile=profile(SWAPPED))
    for kind in ("PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF"):
        yield packed(picture, kind, save_all=True, append_images=frames)
    for kind in ("PNG", "WEBP", "TIFF", "AVIF", "HEIF"):
        yield packed(clear, kind)
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        yield packed(picture.quantize(16), kind)
    for kind in ("PNG", "TIFF"):
        yield packed(deep, kind)
        yield packed(picture.convert("1"), kind)
    for mode in ("I", "F", "CMYK", "YCbCr", "LAB"):
        yield packed(PIL.Image.new(mode, (48, 32)), "TIFF")
    for compression in ("jpeg", "tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate", "group3", "group4"):
        bits = picture.convert("1") if compression.startswith("group") else picture
        yield packed(bits, "TIFF", compression=compression)
    yield packed(picture, "TIFF", big_tiff=True)
    yield packed(picture.quantize(), "PNG", transparency=0)
    yield packed(picture.convert("CMYK"), "JPEG")
    yield packed(picture, "JPEG", progressive=True)
    yield packed(picture, "JPEG", restart_marker_blocks=1, subsampling=0, comment=b"text")
    yield packed(picture, "WEBP", lossless=True)
    yield packed(
        picture.convert("CMYK"), "JPEG", icc_profile=cmyk_profile([(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 0)])
    )
    yield packed(deep, "HEIF")
    yield packed(picture, "HEIF", tile_size=32)
    yield from _seeds_of_colours(np.asarray(picture), np.asarray(deep))
    yield from _seeds_of_numbers(np.asarray(picture), np.asarray(deep))


def _seeds_of_colours(picture: np.ndarray, deep: np.ndarray) -> Iterator[bytes]:
    text = chunk(b"tEXt", b"Comment\0" + b"text" * 20)
    yield png(picture, [cicp(12, 13), iccp(profile(SWAPPED)), gama(1), chrm(SWAPPED)], [text])
    yield png(picture, [gama(1), chrm(SWAPPED), text])
    yield png(picture[..., 0], [iccp(grey(screen))])
    yield png(deep, [gama(0.5)])
    yield png(deep[..., None].repeat(2, 2), [iccp(grey(screen))])
    orientation = b"<tiff:Orientation>6</tiff:Orientation>"
    yield png(picture, [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(orientation))])


def _seeds_of_numbers(picture: np.ndarray, deep: np.ndarray) -> Iterator[bytes]:
    for order in ("<", ">"):
        yield tiff(deep, Written(order=order, photometric=0))
        yield tiff(deep.astype(np.float32), Written(order=order, compression=DEFLATE, predictor=3, tile=16))
        yield tiff(picture.astype(np.float32), Written(order=order, photometric=2, planar=True, compression=LZW))
        yield tiff(picture.astype(np.int16), Written(order=order, photometric=2, predictor=2, compression=DEFLATE))
        yield tiff(deep % 4096, Written(order=order, bits=12, big=True))
    clear = np.dstack([picture, picture[..., :1]])
    yield tiff(clear.astype(np.uint16), Written(photometric=2, extra=(1,), tags=((34675, 7, profile(SWAPPED)),)))
    yield tiff(picture.astype(np.int8), Written(photometric=2))


SEEDS = list(_seeds())

NUMBERS = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
Change = Callable[[bytearray], None]


def _flip(at: int, bit: int) -> Change:
    def change(data: bytearray) -> None:
        if data:
            data[at % len(data)] ^= 1 << bit

    return change


def _number(at: int, number: int, form: str) -> Change:
    """Over a length, a count or an offset."""

    def change(data: bytearray) -> None:
        size = struct.calcsize(form)
        if len(data) >= size:
            struct.pack_into(form, data, at % (len(data) - size + 1), number % 256**size)

    return change


def _replace(at: int, length: int, by: bytes) -> Change:
    """Cut, insert or splice."""

    def change(data: bytearray) -> None:
        start = at % (len(data) + 1)
        data[start : start + length] = by

    return change


def _repeat(at: int, length: int, times: int) -> Change:
    def change(data: bytearray) -> None:
        start = at % (len(data) + 1)
        data[start:start] = data[start : start + length] * times

    return change


def _end(at: int) -> Change:
    def change(data: bytearray) -> None:
        del data[at % (len(data) + 1) :]

    return change


def _mend(data: bytearray) -> None:
    """Give a PNG's chunks sums that are right, so that the reader goes on to what is in them."""
    at = len(PNG)
    while data.startswith(PNG) and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4


_places = (
    st.integers(0, 120) | st.integers(0, 4096) | st.integers(-600, -1)
)  # headers are where the danger is, a TIFF's at its end
_lengths = st.integers(0, 16) | st.integers(0, 512)
_piece = st.binary(max_size=16) | st.builds(
    lambda seed, start, length: seed[start : start + length], st.sampled_from(SEEDS), _places, _lengths
)
_changes = st.one_of(
    st.builds(_flip, _places, st.integers(0, 7)),
    st.builds(_number, _places, st.sampled_from(NUMBERS), st.sampled_from(["B", ">H", "<H", ">I", "<I"])),
    st.builds(_replace, _places, _lengths, _piece),
    st.builds(_repeat, _places, _lengths, st.integers(1, 64)),
    st.builds(_end, _places),
    st.just(_mend),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A file of some format with a few changes, or its beginning and then noise."""
    seed = draw(st.sampled_from(SEEDS))
    if draw(st.integers(0, 9)) == 0:
        return seed[:12] + draw(st.binary(max_size=200))
    data = bytearray(seed)
    for change in draw(st.lists(_changes, min_size=1, max_size=6)):
        change(data)
    return bytes(data)


def outcome(decode: Callable[[bytes], PIL.Image.Image | bytes], data: bytes) -> tuple[object, ...]:
    """The picture, or which of our errors; anything else is raised."""
    try:
        made = decode(data)
    except VisualMemoryError as error:
        return type(error).__name__, error.message
    return (made,) if isinstance(made, bytes) else (made.mode, made.size, made.tobytes())
