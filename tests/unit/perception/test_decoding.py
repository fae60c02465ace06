import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL.Image
import pytest

from schemas.errors import InvalidPicture, TooLarge, UnsupportedFormat
from services.perception.decoding import Limits, decode, media_type, thumbnail
from tests.hostile import BLUE, GREEN, RED, WHITE, packed, quarters

# As decoding itself asks for outside of pytest, so that the paths behind a warning are tested too.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

LIMITS = Limits(max_bytes=2**20, max_pixels=1_000_000)
TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
}


def pixel(picture: PIL.Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    found = picture.getpixel(at)
    assert isinstance(found, tuple)
    return found


def corners(picture: PIL.Image.Image) -> list[tuple[int, ...]]:
    right, low = picture.width - 3, picture.height - 3
    return [pixel(picture, at) for at in ((2, 2), (right, 2), (2, low), (right, low))]


def assert_near(found: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() <= 30, found


@pytest.mark.parametrize("kind", TYPES)
def test_every_format_is_decoded_and_named_by_its_content(kind: str) -> None:
    data = packed(quarters(), kind)
    picture = decode(data, LIMITS)
    assert (picture.mode, picture.size, picture.info) == ("RGB", (48, 32), {})
    assert_near(corners(picture), [RED, GREEN, BLUE, WHITE])
    assert media_type(data) == TYPES[kind]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "size", "expected"),
    [
        (1, (48, 32), [RED, GREEN, BLUE, WHITE]),
        (2, (48, 32), [GREEN, RED, WHITE, BLUE]),
        (3, (48, 32), [WHITE, BLUE, GREEN, RED]),
        (4, (48, 32), [BLUE, WHITE, RED, GREEN]),
        (5, (32, 48), [RED, BLUE, GREEN, WHITE]),
        (6, (32, 48), [BLUE, RED, WHITE, GREEN]),
        (7, (32, 48), [WHITE, GREEN, BLUE, RED]),
        (8, (32, 48), [GREEN, WHITE, RED, BLUE]),
        (99, (48, 32), [RED, GREEN, BLUE, WHITE]),
    ],
)
def test_pictures_are_turned_upright(
    kind: str, orientation: int, size: tuple[int, int], expected: list[tuple[int, ...]]
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    picture = decode(packed(quarters(), kind, exif=exif), LIMITS)
    assert picture.size == size
    assert_near(corners(picture), expected)


def test_a_damaged_exif_does_not_spoil_the_picture() -> None:
    damaged = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01"
    assert decode(packed(quarters(), "JPEG", exif=damaged), LIMITS).size == (48, 32)


@pytest.mark.parametrize(
    ("mode", "kind"), [*((mode, kind) for mode in ("RGBA", "LA") for kind in ("PNG", "TIFF", "WEBP")), ("PA", "TIFF")]
)
def test_alpha_is_laid_on_white(mode: str, kind: str) -> None:
    clear = PIL.Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (0, 0, 0, 128))
    clear.putpixel((2, 0), (0, 0, 0, 255))
    data = packed(clear.convert(mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.asarray(decode(data, LIMITS))[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_white(kind: str) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((1, 0), 1)
    shown = decode(packed(picture, kind, transparency=0), LIMITS)
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [WHITE, GREEN]


def test_a_palette_with_degrees_of_transparency() -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((1, 0), 1)
    shown = decode(packed(picture, "PNG", transparency=bytes([255, 128])), LIMITS)
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [RED, (127, 255, 127)]


@pytest.mark.parametrize(("mode", "colour"), [("RGB", RED), ("L", 7), ("1", 0), ("I;16", 5000)])
def test_a_transparent_colour_without_alpha_is_white(mode: str, colour: int | tuple[int, ...]) -> None:
    picture = PIL.Image.new(mode, (2, 1), colour)
    picture.putpixel((1, 0), GREEN if mode == "RGB" else 1)
    transparency = bool(colour) if mode == "1" else colour
    assert decode(packed(picture, "PNG", transparency=transparency), LIMITS).getpixel((0, 0)) == WHITE


def test_cmyk_has_its_colours() -> None:
    for kind in ("JPEG", "TIFF"):
        assert_near(corners(decode(packed(quarters().convert("CMYK"), kind), LIMITS)), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    ramp = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    assert np.asarray(decode(packed(PIL.Image.fromarray(ramp), kind), LIMITS))[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    "ramp",
    [
        np.array([[-1.0, 0.0, 1.0]], np.float32),
        np.array([[0, 500_000, 1_000_000]], np.int32),
        np.array([[2.0, np.nan, -2.0]], np.float32)[:, [2, 1, 0]],
    ],
)
def test_deep_grey_spans_black_to_white(ramp: np.ndarray) -> None:
    assert np.asarray(decode(packed(PIL.Image.fromarray(ramp), "TIFF"), LIMITS))[0, :, 2].tolist() == [0, 128, 255]


def test_flat_deep_grey_is_a_picture() -> None:
    assert decode(packed(PIL.Image.new("F", (2, 2), 3.5), "TIFF"), LIMITS).getpixel((0, 0)) == (0, 0, 0)


def test_one_bit_is_black_and_white() -> None:
    picture = PIL.Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    shown = decode(packed(picture, "TIFF"), LIMITS)
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), WHITE]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_shown(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    data = packed(frames[0], kind, save_all=True, append_images=frames[1:])
    assert_near([pixel(decode(data, LIMITS), (4, 4))], [RED])


def test_big_endian_and_big_tiffs() -> None:
    assert media_type(packed(quarters(), "TIFF", big_tiff=True)) == "image/tiff"
    big_endian = packed(PIL.Image.fromarray(np.full((2, 2), 65535, ">u2")), "TIFF")
    assert decode(big_endian, LIMITS).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("data", [b"", b"hello", b"BM", b"\xff\xd8\xff", b"GIF89a", b"II*\x00", b"\x00" * 4096])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(InvalidPicture):
        decode(data, LIMITS)
    with pytest.raises(InvalidPicture):
        thumbnail(data, 16, LIMITS)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (packed(quarters(), "ICO"), "ICO"),
        (packed(quarters(), "JPEG2000"), "JPEG 2000"),
        (b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f\x01\x90", "JPEG XL"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "MP4"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)
def test_other_formats_are_named_and_refused(data: bytes, named: str) -> None:
    for use in (lambda: decode(data, LIMITS), lambda: media_type(data)):
        with pytest.raises(UnsupportedFormat, match=rf"{named}.*JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF or TIFF"):
            use()


@pytest.mark.parametrize("kind", TYPES)
def test_half_a_picture_is_refused(kind: str) -> None:
    data = packed(PIL.Image.effect_noise((64, 64), 90).convert("RGB"), kind)
    with pytest.raises(InvalidPicture, match="ends too early"):
        decode(data[: len(data) // 2], LIMITS)


def test_too_many_bytes() -> None:
    data = packed(quarters(), "BMP")
    assert decode(data, Limits(len(data), 10_000)).size == (48, 32)
    with pytest.raises(TooLarge, match="bytes"):
        decode(data, Limits(len(data) - 1, 10_000))


@pytest.mark.parametrize("kind", TYPES)
def test_too_many_pixels(kind: str) -> None:
    data = packed(quarters(), kind)
    assert decode(data, Limits(2**20, 48 * 32)).size == (48, 32)
    for use in (decode, lambda data, limits: thumbnail(data, 16, limits)):
        with pytest.raises(TooLarge, match="48 x 32 pixels; at most 1,535"):
            use(data, Limits(2**20, 48 * 32 - 1))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises much and that holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 64))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [1_001, 9_500, 13_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(TooLarge, match="pixels"):
        decode(bomb(side, side), LIMITS)


def test_a_picture_of_no_size() -> None:
    for data in (bomb(0, 5), bomb(5, 0)):
        with pytest.raises(InvalidPicture):
            decode(data, LIMITS)


def test_no_warning_of_pillow_leaks() -> None:
    """In a process with Python's own warning filters, where a warning is a line in somebody's log."""
    code = f"""
import sys
from schemas.errors import VisualMemoryError
from services.perception.decoding import Limits, decode
for data in ({bomb(9_500, 9_500)!r}, {packed(quarters(), "JPEG", exif=b"Exif" + bytes(9))!r}):
    try:
        decode(data, Limits(2**20, 10**6))
    except VisualMemoryError as error:
        print(type(error).__name__)
heavy = {{"torch", "transformers", "sentence_transformers"}} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["TooLarge", "[]"], "")


def test_a_thumbnail_is_a_small_upright_jpeg_without_metadata() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    data = packed(quarters().resize((960, 640)), "JPEG", exif=exif, comment=b"secret")
    small = PIL.Image.open(io.BytesIO(thumbnail(data, 96, LIMITS)))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (64, 96))
    assert_near(corners(small), [BLUE, RED, WHITE, GREEN])
    assert not small.getexif()
    assert {"exif", "comment", "icc_profile", "xmp"}.isdisjoint(small.info)


def test_a_thumbnail_of_a_small_picture_keeps_its_size() -> None:
    assert PIL.Image.open(io.BytesIO(thumbnail(packed(quarters(), "PNG"), 96, LIMITS))).size == (48, 32)
