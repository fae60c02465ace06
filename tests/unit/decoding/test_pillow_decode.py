import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL.Image
import pytest

from tests.support.colour_profiles import SRGB, SWAPPED, chunk, gama, png, profile
from tests.support.damaged_pictures import BLUE, GREEN, RED, WHITE, packed, quarters
from visual_memory.schemas.errors import InvalidPicture, TooLarge, UnsupportedFormat
from visual_memory.services.decoding.file_formats.recognise_format import media_type
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, decode_with_thumbnail, thumbnail
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop

# As decoding itself asks for outside of pytest, so that the paths behind a warning are tested too.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=1_000_000)
TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
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
    picture = decode(packed(quarters(), kind, exif=exif.tobytes()), LIMITS)
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


TEXT = b"words " * 300_000
TEXTS = {
    "tEXt": chunk(b"tEXt", b"Comment\0" + TEXT),
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(TEXT)),
    "iTXt": chunk(b"iTXt", b"Comment\0\0\0\0\0" + TEXT),
    "packed iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(TEXT)),
    "bomb": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26))),
    "bomb of orientation": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**26))),
    "long orientation": chunk(b"tEXt", b"Raw profile type exif\0" + TEXT),
    "no text": chunk(b"tEXt", b""),
    "no method": chunk(b"zTXt", b"Comment\0\7junk"),
    "wrong sum": chunk(b"tEXt", b"Comment\0text")[:-1] + b"?",
    "wrong sum of colours": gama(1)[:-1] + b"?",
    "short colours": chunk(b"gAMA", b"\0") + chunk(b"cHRM", b"\0") + chunk(b"sRGB", b"") + chunk(b"cICP", b"\1"),
    "animation out of order": chunk(b"fcTL", bytes(26))
    + chunk(b"acTL", bytes(8))
    + chunk(b"fcTL", b"\0\0\0\x07" + bytes(22)),
    "unknown": chunk(b"prVt", bytes(2**20)),
    "profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(profile(SRGB) + bytes(2**23))),
    "bomb of a profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2**28))),
}


@pytest.mark.parametrize("where", ["before", "after", "at the end"])
@pytest.mark.parametrize("name", TEXTS)
def test_what_makes_no_pixels_of_a_png_spoils_none(name: str, where: str) -> None:
    limits, pixels = PictureLimits(2**23, 10_000), np.asarray(quarters())
    data = png(pixels, [TEXTS[name]] if where == "before" else (), [TEXTS[name]] if where == "after" else ())
    if where == "at the end":  # and the end is missing
        data = data[:-12] + TEXTS[name][:-20]
    for version in (1, 2):
        assert np.array_equal(np.asarray(decode(data, limits, PreprocessingCrop(version=version))), pixels)
    thumbnail(data, 16, limits)


@pytest.mark.parametrize("name", ["iTXt", "zTXt", "tEXt"])
def test_which_way_is_up_is_found_in_a_text_too(name: str) -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    text = {
        "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        "zTXt": chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(xmp)),
        "tEXt": chunk(b"tEXt", b"XML:com.adobe.xmp\0" + xmp),
    }[name]
    assert decode(png(np.asarray(quarters()), [text]), LIMITS).size == (32, 48)


JPEGS: dict[str, dict[str, object]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "flat": {"quality": 5},
}


@pytest.mark.parametrize("crop", [PreprocessingCrop(), PreprocessingCrop(16, 16)])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_lacks_only_its_end_is_read_and_one_that_lacks_pixels_is_not(
    kind: str, crop: PreprocessingCrop
) -> None:
    pictures = [PIL.Image.effect_noise((72, 56), 90).convert("RGB"), quarters(), PIL.Image.new("L", (70, 50), 128)]
    for picture in pictures:
        data = packed(picture, "JPEG", **JPEGS[kind])
        whole = decode(data, LIMITS, crop).tobytes()
        for tail in (b"", b"\xff", b"\0" * 9, b"more"):
            assert decode(data[:-2] + tail, LIMITS, crop).tobytes() == whole
        scan = data.find(b"\xff\xda")
        for end in range(scan, len(data) - 4, max(1, (len(data) - scan) // 40)):
            with pytest.raises(InvalidPicture, match="ends too early"):
                decode(data[:end], LIMITS, crop)


def test_kinds_of_jpeg_that_no_reader_here_reads_are_called_by_their_names() -> None:
    data = packed(quarters(), "JPEG")
    at = data.find(b"\xff\xc0")
    for place, number, named in ((4, 12, "12 bits"), (9, 2, "2 channels"), (1, 0xF7, "JPEG-LS"), (1, 0xC3, "lossless")):
        changed = bytearray(data)
        changed[at + place] = number
        with pytest.raises(UnsupportedFormat, match=rf"a.* JPEG.*{named}|{named}.*JPEG|a {named}"):
            decode(bytes(changed), LIMITS)
    apple = png(np.asarray(quarters()))
    with pytest.raises(UnsupportedFormat, match="CgBI"):
        decode(apple[:8] + chunk(b"CgBI", bytes(4)) + apple[8:].replace(b"IDAT", b"IDAX"), LIMITS)


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM\4"),
        (0xE2, b"MPF\0junk"),
        (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        (0xFE, b"\xff" * 300),
    ],
)
def test_odd_notes_in_a_jpeg_do_not_spoil_its_pixels(marker: int, body: bytes) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = packed(quarters(), "JPEG", exif=exif, icc_profile=profile(SWAPPED))
    note = bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
    scan = data.rfind(b"\xff\xda")
    assert decode(data[:scan] + note + data[scan:], LIMITS).tobytes() == decode(data, LIMITS).tobytes()


def test_metadata_that_is_cut_off_does_not_spoil_a_webp() -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = "text" * 20
    for options in ({"lossless": True}, {"quality": 90}, {"icc_profile": profile(SWAPPED)}):
        whole = packed(quarters(), "WEBP", **options)
        data = packed(quarters(), "WEBP", exif=exif, **options)
        for end in range(data.rfind(b"EXIF"), len(data), 7):
            assert decode(data[:end], LIMITS).tobytes() == decode(whole, LIMITS).tobytes()


@pytest.mark.parametrize("kind", TYPES)
def test_what_follows_a_picture_is_no_part_of_it(kind: str) -> None:
    data = packed(quarters(), kind)
    for tail in (b"\0", b"text" * 1000, b"\xff\xd8\xff", data):
        assert decode(data + tail, LIMITS).tobytes() == decode(data, LIMITS).tobytes()


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_which_way_is_up_is_said_once(kind: str) -> None:
    """The container turns an AVIF or HEIC; what its EXIF says beside that is for readers that know no container."""
    exif = PIL.Image.Exif()
    exif[0x010E], exif[0x0112] = "text", 1
    data = packed(quarters(), kind, exif=exif.tobytes())
    for entry in (b"\x12\x01\x03\x00\x01\x00\x00\x00\x01", b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01"):
        data = data.replace(entry, entry[:-1] + b"\6")
    assert b"\6" in data
    assert decode(data, LIMITS).size == (48, 32)
    upright, turned = (b'<x tiff:Orientation="%d"/>' % way for way in (1, 6))
    assert decode(packed(quarters(), kind, xmp=upright).replace(upright, turned), LIMITS).size == (48, 32)


@pytest.mark.parametrize(
    "options",
    [{"tile_size": 32}, {"chroma": 422}, {"chroma": 444}, {"quality": -1}, {"thumbnails": [16]}],
    ids=str,
)
def test_heic_of_many_kinds(options: dict[str, object]) -> None:
    assert_near(
        corners(decode(packed(quarters().resize((96, 64)), "HEIF", **options), LIMITS)), [RED, GREEN, BLUE, WHITE]
    )


def test_heic_of_10_bits_and_with_alpha() -> None:
    ramp = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None], 64, axis=0)
    found = np.asarray(decode(packed(PIL.Image.fromarray(ramp), "HEIF", quality=-1), LIMITS))
    assert np.abs(found[32, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 3
    for kind in ("AVIF", "HEIF"):
        clear = packed(PIL.Image.new("RGBA", (64, 64), (255, 0, 0, 128)), kind)
        assert_near([pixel(decode(clear, LIMITS), (32, 32))], [(255, 127, 127)])


def test_the_kind_of_a_picture_in_boxes_is_found_among_its_brands() -> None:
    for kind in ("AVIF", "HEIF"):
        data = packed(quarters(), kind)
        for first in (b"mif1", b"msf1", b"miaf", b"MA1B"):
            changed = data[:8] + first + data[12:]
            assert media_type(changed) == TYPES[kind]
            assert decode(changed, LIMITS).tobytes() == decode(data, LIMITS).tobytes()


def test_a_heif_of_another_codec_is_called_so() -> None:
    data = packed(quarters(), "HEIF").replace(b"hvc1", b"xxx1")
    with pytest.raises(UnsupportedFormat, match="another codec than HEVC"):
        decode(data, LIMITS)


def test_too_many_bytes() -> None:
    data = packed(quarters(), "BMP")
    assert decode(data, PictureLimits(len(data), 10_000)).size == (48, 32)
    with pytest.raises(TooLarge, match="bytes"):
        decode(data, PictureLimits(len(data) - 1, 10_000))


@pytest.mark.parametrize("kind", TYPES)
def test_too_many_pixels(kind: str) -> None:
    data = packed(quarters(), kind)
    assert decode(data, PictureLimits(2**20, 48 * 32)).size == (48, 32)
    for use in (decode, lambda data, limits: thumbnail(data, 16, limits)):
        with pytest.raises(TooLarge, match="48 x 32 pixels; at most 1,535"):
            use(data, PictureLimits(2**20, 48 * 32 - 1))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_picture_in_boxes_that_announces_too_much_is_too_large(kind: str) -> None:
    data = packed(quarters(), kind)
    size = b"ispe\0\0\0\0" + struct.pack(">II", 48, 32) if kind == "AVIF" else None
    at = data.find(b"ispe") + 8
    assert at > 8
    assert size is None or data[at - 8 : at + 8] == size
    for side in (1_001, 16_000):
        with pytest.raises((TooLarge, InvalidPicture)):
            decode(data[:at] + struct.pack(">II", side, side) + data[at + 8 :], LIMITS)


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
from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
for data in ({bomb(9_500, 9_500)!r}, {packed(quarters(), "JPEG", exif=b"Exif" + bytes(9))!r}):
    try:
        decode(data, PictureLimits(2**20, 10**6))
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


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((2000, 1500), PreprocessingCrop(256, 224)),
        ((900, 900), PreprocessingCrop(96, 96)),
        ((300, 200), PreprocessingCrop(256, 224, version=1)),
        ((100, 40), PreprocessingCrop()),
        ((1, 3000), PreprocessingCrop(64)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_thumbnail_comes_with_the_pixels_of_the_encoder(
    size: tuple[int, int], crop: PreprocessingCrop, kind: str
) -> None:
    """Whatever the encoder needs of a picture: its pixels are the same, and the thumbnail is of all of it."""
    limits = PictureLimits(10**7, 10**7)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = packed(quarters().resize(size), kind, exif=exif)
    decoded, small = decode_with_thumbnail(data, limits, crop, 256)
    expected = decode(data, limits, crop)
    assert (decoded.size, decoded.tobytes()) == (expected.size, expected.tobytes())
    found, alone = (PIL.Image.open(io.BytesIO(each)) for each in (small, thumbnail(data, 256, limits)))
    scale = min(1, 256 / max(size))
    assert found.size == alone.size == (max(1, round(size[1] * scale)), max(1, round(size[0] * scale)))
    if min(size) > 8:
        assert_near(corners(found), [BLUE, RED, WHITE, GREEN])


def test_a_thumbnail_of_a_small_picture_keeps_its_size() -> None:
    assert PIL.Image.open(io.BytesIO(thumbnail(packed(quarters(), "PNG"), 96, LIMITS))).size == (48, 32)
