"""Colours are those that a viewer shows: whatever says what they mean, and in whatever format."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from PIL import ImageCms

from tests.support.colour_profiles import (
    ADOBE,
    BT2020,
    P3,
    SRGB,
    SWAPPED,
    chrm,
    chunk,
    cicp,
    cmyk_profile,
    gama,
    grey,
    iccp,
    png,
    power,
    profile,
    screen,
    seen,
)
from tests.support.damaged_pictures import GREEN, RED, WHITE, packed
from tests.support.tiff_writer import Written, tiff
from visual_memory.services.decoding import colour_to_srgb
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, thumbnail
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")
LIMITS = PictureLimits(max_bytes=2**23, max_pixels=1_000_000)
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444},
}
LEVELS = np.array([[[r, g, b] for r in (0, 90, 200, 255) for g in (0, 128, 255) for b in (30, 180)]], np.uint8)
SWATCHES = np.kron(LEVELS, np.ones((16, 16, 1), np.uint8))


def shown(data: bytes, crop: PreprocessingCrop = PreprocessingCrop()) -> NDArray[np.uint8]:  # noqa: B008 - it is frozen
    return np.asarray(decode(data, LIMITS, crop))


def near(found: NDArray[Any], expected: NDArray[Any] | list[Any], most: int = 2) -> None:
    difference = np.abs(found.astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= most, (
        found.reshape(-1, 3)[:8].tolist(),
        np.asarray(expected).reshape(-1, 3)[:8].tolist(),
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_red_is_green_where_the_profile_swaps_them(kind: str) -> None:
    data = packed(PIL.Image.new("RGB", (64, 64), RED), kind, icc_profile=profile(SWAPPED), **FORMATS[kind])
    near(shown(data), np.full((64, 64, 3), GREEN), 3)
    near(
        shown(data, PreprocessingCrop(32, 32))[:32, :32], np.full((32, 32, 3), GREEN), 3
    )  # the encoder resizes what is left
    near(np.asarray(PIL.Image.open(io.BytesIO(thumbnail(data, 16, LIMITS)))), np.full((16, 16, 3), GREEN), 3)
    near(shown(data, PreprocessingCrop(version=1)), np.full((64, 64, 3), RED), 3)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("space", "curve"), [(P3, screen), (ADOBE, power(2.2)), (BT2020, power(2.4)), (SRGB, power(1))]
)
def test_wide_and_linear_spaces_in_every_format(kind: str, space: tuple[float, ...], curve: Any) -> None:
    data = packed(PIL.Image.fromarray(SWATCHES), kind, icc_profile=profile(space, curve), **FORMATS[kind])
    centres = shown(data)[8::16, 8::16]
    plain = shown(packed(PIL.Image.fromarray(SWATCHES), kind, **FORMATS[kind]))[8::16, 8::16]
    near(centres, seen(plain, space, curve), 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "HEIF"])
def test_grey_with_a_grey_profile(kind: str) -> None:
    ramp = np.kron(np.arange(0, 256, 17, dtype=np.uint8)[None], np.ones((16, 16), np.uint8))
    options = {"quality": 95} if kind == "JPEG" else {"quality": -1} if kind == "HEIF" else {}
    data = packed(PIL.Image.fromarray(ramp), kind, icc_profile=grey(power(1)), **options)
    levels = np.repeat(np.arange(0, 256, 17, dtype=np.uint8)[None, :, None], 3, axis=2)
    near(shown(data)[8:9, 8::16], seen(levels, SRGB, power(1)), 4 if kind in ("JPEG", "HEIF") else 1)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("profiled", [False, True])
def test_cmyk_with_a_profile_has_the_press_s_inks(kind: str, profiled: bool) -> None:
    red_ink = cmyk_profile([(1, 0.02, 0.02), (0.9, 0.02, 0.5), (0.9, 0.9, 0.02), (0.02, 0.02, 0.02)])
    picture = PIL.Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    data = packed(picture, kind, **({"icc_profile": red_ink} if profiled else {}))
    red, green, blue = shown(data)[16, 16].tolist()
    assert (red > 200 and max(green, blue) < 70) if profiled else (red < 50 and min(green, blue) > 200)
    paper = packed(PIL.Image.new("CMYK", (32, 32), (0, 0, 0, 0)), kind, icc_profile=red_ink)
    near(shown(paper), np.full((32, 32, 3), WHITE), 3)


def test_a_palette_s_colours_and_transparency() -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((1, 0), 1)
    near(shown(packed(picture, "PNG", icc_profile=profile(SWAPPED))), [[GREEN, RED]])
    near(shown(packed(picture, "PNG", icc_profile=profile(SWAPPED), transparency=0)), [[WHITE, RED]])
    near(
        shown(packed(picture, "PNG", icc_profile=profile(SWAPPED), transparency=b"\x80\xff")),
        [[(127, 255, 127), RED]],
    )


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_transparency_is_kept(depth: type) -> None:
    scale = 257 if depth is np.uint16 else 1
    linear = iccp(grey(power(1)))
    clear: NDArray[Any] = np.array([[[128, 128], [0, 0], [255, 255]]], depth) * scale
    near(shown(png(clear.astype(depth), [linear])), [[[221] * 3, [255] * 3, [255] * 3]])
    coloured: NDArray[Any] = np.array([[[255, 0, 0, 128], [255, 0, 0, 255]]], depth) * scale
    near(shown(png(coloured.astype(depth), [iccp(profile(SWAPPED))])), [[(127, 255, 127), GREEN]])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_is_that_of_the_file_not_of_the_profile(channels: int) -> None:
    pixels = np.array([[[128] * channels, [64] * channels]], np.uint8)
    clear = chunk(b"tRNS", b"\0\x80" * channels)
    space = iccp(grey(power(1)) if channels == 1 else profile(SRGB, power(1)))
    near(shown(png(pixels, [space, clear])), [[[255] * 3, [137] * 3]])
    deep = chunk(b"tRNS", b"\x80\x80" * channels)
    near(shown(png(pixels.astype(np.uint16) * 257, [space, deep])), [[[255] * 3, [137] * 3]])


def test_16_bit_with_a_profile() -> None:
    pixels = np.array([[0, 3 * 257, 32896, 65535]], np.uint16)
    expected = seen(np.repeat(pixels[..., None], 3, axis=2), SRGB, power(1), 65535)
    near(shown(png(pixels, [iccp(grey(power(1)))])), expected)
    near(shown(tiff(pixels, Written(tags=((34675, 7, grey(power(1))),)))), expected)
    deep = (LEVELS.astype(np.uint16) * 257)[:, :6]
    near(shown(png(deep, [iccp(profile(P3))])), seen(LEVELS[:, :6], P3, screen))
    near(shown(tiff(deep, Written(photometric=2, tags=((34675, 7, profile(P3)),)))), seen(LEVELS[:, :6], P3, screen))


def test_lab() -> None:
    lab = np.array([[[255, 0, 0], [0, 0, 0], [136, 80, 67], [136, 0, 0]]], np.uint8)
    near(shown(tiff(lab, Written(photometric=8))), [[WHITE, (0, 0, 0), RED, (127, 127, 127)]], 12)


CODES = [
    (1, 1, SRGB, lambda v: np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))),
    (9, 14, BT2020, lambda v: np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))),
    (12, 13, P3, screen),
    (1, 8, SRGB, power(1)),
    (1, 4, SRGB, power(2.2)),
]


@pytest.mark.parametrize(("primaries", "transfer", "space", "curve"), CODES)
def test_code_points_of_a_png(primaries: int, transfer: int, space: tuple[float, ...], curve: Any) -> None:
    near(shown(png(LEVELS, [cicp(primaries, transfer)])), seen(LEVELS, space, curve))
    ramp = np.arange(256, dtype=np.uint8)[None]
    near(shown(png(ramp, [cicp(primaries, transfer)])), seen(np.repeat(ramp[..., None], 3, 2), SRGB, curve))


def test_a_narrow_range_is_spread() -> None:
    narrow = np.array([[[16, 16, 16], [235, 235, 235], [235, 16, 16]]], np.uint8)
    near(shown(png(narrow, [cicp(1, 13, full=0)])), [[(0, 0, 0), WHITE, RED]])


@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)])
def test_high_dynamic_range_has_the_white_of_a_screen_as_white(transfer: int, white: int) -> None:
    """203 cd/m2 are 58 % of PQ's signal, and 75 % of HLG's (ITU-R BT.2408, table 1)."""
    ramp = np.array([[0, white // 2, white, 255]], np.uint8)
    found = shown(png(ramp, [cicp(9, transfer)]))[0, :, 0].tolist()
    assert found[0] == 0
    assert 40 < found[1] < 140
    assert found[2] >= 250
    assert found[3] == 255


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.25, 1 / 2.2])
def test_gamma(gamma: float) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    curve = power(1 / gamma) if gamma != 1 / 2.2 else screen
    near(shown(png(ramp, [gama(gamma)])), seen(np.repeat(ramp[..., None], 3, 2), SRGB, curve))
    near(shown(png(LEVELS, [gama(gamma)])), seen(LEVELS, SRGB, curve))
    near(shown(png(LEVELS, [gama(gamma), chrm(P3)])), seen(LEVELS, P3, curve))
    near(shown(png(LEVELS, [chrm(P3)])), LEVELS)  # primaries alone say nothing
    deep = np.array([[0, 257 * 40, 65535]], np.uint16)
    near(shown(png(deep, [gama(gamma)])), seen(np.repeat(deep[..., None], 3, 2), SRGB, curve, 65535))


def test_what_is_most_exact_goes_before() -> None:
    """PNG, third edition, section 4.3: cICP, iCCP, sRGB, gAMA with cHRM."""
    coded, swapped, srgb, linear = cicp(12, 13), iccp(profile(SWAPPED)), chunk(b"sRGB", b"\0"), gama(1)
    near(shown(png(LEVELS, [linear, srgb, swapped, coded])), seen(LEVELS, P3, screen))
    near(shown(png(LEVELS, [linear, srgb, swapped])), LEVELS[..., [1, 0, 2]])
    near(shown(png(LEVELS, [linear, srgb])), LEVELS)
    near(shown(png(LEVELS, [linear])), seen(LEVELS, SRGB, power(1)))
    near(shown(png(LEVELS, [cicp(1, 13), swapped])), LEVELS)
    near(shown(png(LEVELS, [cicp(99, 13), swapped])), LEVELS[..., [1, 0, 2]])
    near(shown(png(LEVELS, [chunk(b"iCCP", b"name\0\0damaged"), linear])), seen(LEVELS, SRGB, power(1)))
    near(shown(png(LEVELS, [swapped[:-4] + b"oops", linear])), seen(LEVELS, SRGB, power(1)))
    near(shown(png(LEVELS, (), [swapped])), LEVELS)  # after the pixels it comes too late


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "useless",
    [
        b"no profile",
        profile(SWAPPED)[:300],
        profile(SWAPPED)[:132] + bytes(500),
        grey(power(1)),
        cmyk_profile([(0, 0, 0)] * 4),
    ],
    ids=["text", "cut", "zeroes", "grey", "CMYK"],
)
def test_a_profile_that_is_damaged_or_of_another_space_is_left_alone(kind: str, useless: bytes) -> None:
    picture = PIL.Image.fromarray(SWATCHES)
    plain = shown(packed(picture, kind, **FORMATS[kind]))
    near(shown(packed(picture, kind, icc_profile=useless, **FORMATS[kind])), plain, 0)


def test_a_profile_in_many_segments_of_a_jpeg_in_any_order() -> None:
    long = profile(SWAPPED) + bytes(150_000)
    data = packed(PIL.Image.new("RGB", (16, 16), RED), "JPEG", icc_profile=long, subsampling=0)
    near(shown(data), np.full((16, 16, 3), GREEN), 3)
    marks, at = [], data.find(b"\xff\xe2")
    while data[at : at + 2] == b"\xff\xe2":
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        marks.append(data[at:end])
        at = end
    assert len(marks) > 2
    whole = b"".join(marks)
    near(shown(data.replace(whole, b"".join(reversed(marks)))), np.full((16, 16, 3), GREEN), 3)
    scan = data.rfind(b"\xff\xda")
    late = data[:scan].replace(whole, b"") + whole + data[scan:]
    near(shown(late), np.full((16, 16, 3), GREEN), 3)
    for fewer in (marks[1:], [*marks, marks[0]], marks[:-1]):
        near(shown(data.replace(whole, b"".join(fewer))), np.full((16, 16, 3), RED), 3)


def test_inverted_cmyk_of_adobe() -> None:
    data = packed(PIL.Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG")
    assert b"Adobe" in data
    red, green, blue = shown(data)[8, 8].tolist()
    assert red < 60
    assert min(green, blue) > 180


def test_what_is_srgb_costs_no_transform() -> None:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile_of_srgb in (made, profile(SRGB)):
        assert colour_to_srgb._transform(profile_of_srgb, "RGB") is None
        near(shown(packed(PIL.Image.fromarray(LEVELS), "PNG", icc_profile=profile_of_srgb)), LEVELS, 0)
    assert colour_to_srgb._transform(profile(P3), "RGB") is not None


@pytest.mark.parametrize(("kind", "codes"), [("HEIF", (12, 13)), ("HEIF", (9, 16)), ("HEIF", (1, 1))])
def test_code_points_of_heic(kind: str, codes: tuple[int, int]) -> None:
    said = dict(zip(("color_primaries", "transfer_characteristics"), codes, strict=True))
    nclx = {**said, "matrix_coefficients": 6, "full_range_flag": 1}
    picture = PIL.Image.fromarray(SWATCHES)
    data = packed(picture, kind, nclx_profile=nclx, save_nclx_profile=True, **FORMATS[kind])
    plain = shown(packed(picture, kind, **FORMATS[kind]))[8::16, 8::16]
    centres = shown(data)[8::16, 8::16]
    if codes == (12, 13):
        near(centres, seen(plain, P3, screen), 4)
    elif codes == (1, 1):
        near(centres, plain, 2)
    else:
        assert not np.array_equal(centres, plain)


def test_code_points_of_avif() -> None:
    data = packed(PIL.Image.fromarray(SWATCHES), "AVIF", **FORMATS["AVIF"])
    at = data.find(b"colrnclx")
    assert at > 0
    plain = shown(data)[8::16, 8::16]
    wide = data[: at + 8] + b"\0\x0c\0\x0d" + data[at + 12 :]
    near(shown(wide)[8::16, 8::16], seen(plain, P3, screen), 3)
