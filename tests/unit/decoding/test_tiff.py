"""TIFFs are no negatives and no noise, whatever numbers they hold; what is not read is called by its name."""

import io
from itertools import product
from typing import Any, Literal

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from tests.support.damaged_pictures import packed
from tests.support.tiff_writer import DEFLATE, LZW, Written, tiff
from visual_memory.schemas.errors import InvalidPicture, TooLarge, UnsupportedFormat
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, thumbnail
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop

# As decoding itself asks for outside of pytest, so that the paths behind a warning are tested too.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=1_000_000)
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tile": 16},
    "LZW": {"compression": LZW},
    "deflated tiles": {"compression": DEFLATE, "tile": 16},
    "LZW with differences": {"compression": LZW, "predictor": 2},
    "deflate with differences": {"compression": DEFLATE, "predictor": 2},
    "tiles with differences": {"compression": DEFLATE, "predictor": 2, "tile": 16},
    "big": {"big": True, "compression": DEFLATE},
}
GREYS: dict[str, NDArray[Any]] = {
    "uint16": np.array([0, 32896, 65535], np.uint16),
    "uint32": np.array([0, 2**31, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "int8": np.array([-128, 0, 127], np.int8),
    "int16": np.array([-32768, 0, 32767], np.int16),
    "int32": np.array([-(2**31), 0, 2**31 - 1], np.int32),
    "float16": np.array([0, 0.5, 1], np.float16),
    "float32": np.array([0, 0.5, 1], np.float32),
    "float64": np.array([0, 0.5, 1], np.float64),
    "int16 of a few": np.array([-10, 0, 10], np.int16),
    "float32 beyond 1": np.array([-1000, 0, 1000], np.float32),
}
EXPECTED = np.array([0, 128, 255])


def wide(values: NDArray[Any], height: int = 5) -> NDArray[Any]:
    """The values in turn, over more rows than a strip and more columns than a tile."""
    return np.resize(values, (height, 21))


def shown(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data, LIMITS))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", GREYS)
def test_deep_greys_have_their_greys_in_both_byte_orders_and_polarities(kind: str, layout: str) -> None:
    pixels, expected = wide(GREYS[kind]), np.resize(EXPECTED, (5, 21))
    if pixels.dtype.kind == "f" and "predictor" in LAYOUTS[layout]:
        layouts = [LAYOUTS[layout] | {"predictor": 3}]
    else:
        layouts = [LAYOUTS[layout]]
    for order, white, how in product(ORDERS, (False, True), layouts):
        found = shown(tiff(pixels, Written(order=order, photometric=0 if white else 1, **how)))
        assert np.abs(found - (255 - expected if white else expected)[..., None]).max() <= 1, (order, white)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 14])
def test_greys_of_few_bits(bits: int, order: Literal["<", ">"], layout: str) -> None:
    if bits % 8 and "predictor" in LAYOUTS[layout]:
        pytest.skip("there is none for such samples")
    most = 2**bits - 1
    levels = [0, most // 2 + 1, most] if bits > 1 else [0, 1, 1]
    pixels = wide(np.array(levels, np.uint16 if bits > 8 else np.uint8))
    expected = np.resize(np.rint(np.array(levels) * 255 / most), (5, 21)).astype(int)
    for white in (False, True):
        how = Written(order=order, photometric=0 if white else 1, bits=bits % 8 and bits, **LAYOUTS[layout])
        found = shown(tiff(pixels, how))
        assert np.abs(found - (255 - expected if white else expected)[..., None]).max() <= 1, white


COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [128, 64, 0]], np.uint8)


def coloured(kind: str, colours: NDArray[np.uint8] = COLOURS) -> NDArray[Any]:
    """21 x 5 pixels of these colours, as numbers of some kind."""
    pixels = np.resize(colours, (5, 21, colours.shape[1])) / 255
    if kind.startswith("float"):
        return pixels.astype(kind)
    limits = np.iinfo(kind)
    exact = [round(value * (limits.max - limits.min)) + limits.min for value in pixels.ravel().tolist()]
    return np.array(exact, kind).reshape(pixels.shape)


@pytest.mark.parametrize("planar", [False, True], ids=["together", "apart"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "uint32", "float16", "float32", "float64"])
def test_rgb_of_any_numbers_has_its_colours(kind: str, layout: str, planar: bool) -> None:
    for order in ORDERS:
        how = LAYOUTS[layout] | ({"predictor": 3} if kind[0] == "f" and "predictor" in LAYOUTS[layout] else {})
        data = tiff(coloured(kind), Written(order=order, photometric=2, planar=planar, **how))
        assert np.abs(shown(data).astype(int) - coloured("uint8")).max() <= 1


@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_deep_rgb_with_alpha_is_laid_on_white(kind: str, extra: int) -> None:
    clear = np.array([[255, 0, 0, 255], [0, 0, 0, 0], [64 * extra, 0, 0, 128]], np.uint8)
    found = shown(tiff(coloured(kind, clear), Written(photometric=2, extra=(extra,))))
    expected = [[255, 0, 0], [255, 255, 255], [191, 127, 127]]
    assert np.abs(found[0, :3].astype(int) - expected).max() <= 2


def test_deep_cmyk_and_lab_in_planes() -> None:
    inks = np.array([[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]], np.uint8)
    found = shown(tiff(coloured("uint16", inks), Written(photometric=5, planar=True)))
    assert np.abs(found[0, :3].astype(int) - [[255, 0, 0], [0, 0, 0], [255, 255, 255]]).max() <= 1
    lab = np.array([[[65535, 0, 0], [0, 0, 0], [34885, 20480, 17152]]], np.int64).astype(np.uint16)
    found = shown(tiff(lab, Written(photometric=8)))
    assert np.abs(found[0].astype(int) - [[255, 255, 255], [0, 0, 0], [255, 0, 0]]).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_ones_are_turned_upright(orientation: int) -> None:
    corners = np.array([[0, 21845], [43690, 65535]], np.uint16)
    turned = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.T,
        6: np.rot90(corners, -1),
        7: corners[::-1, ::-1].T,
        8: np.rot90(corners),
    }[orientation]
    found = shown(tiff(corners, Written(tags=((274, 3, bytes([orientation, 0])),))))
    assert np.array_equal(found[..., 0], turned // 257)


def test_of_several_pages_the_first_is_shown() -> None:
    pages = [PIL.Image.fromarray(np.full((4, 4), level, np.uint16)) for level in (65535, 0)]
    assert shown(packed(pages[0], "TIFF", save_all=True, append_images=pages[1:]))[0, 0].tolist() == [255] * 3


def test_one_that_does_not_say_how_long_its_strips_are() -> None:
    data = tiff(coloured("uint16"), Written(photometric=2))
    silent = data.replace(b"\x17\x01\x04\x00", b"\xe8\xfd\x04\x00")
    assert silent != data
    assert np.abs(shown(silent).astype(int) - coloured("uint8")).max() <= 1


def test_what_is_no_number_spoils_nothing() -> None:
    found = shown(tiff(np.array([[-2, np.nan, 2, np.inf]], np.float32)))
    assert found[0, :, 0].tolist() == [0, 128, 255, 128]
    assert shown(tiff(np.full((2, 2), np.nan, np.float32))).max() == 0


def test_version_1_shows_what_it_always_showed() -> None:
    """Vectors of it are compared with those that were made of a negative."""
    negative = tiff(GREYS["uint16"][None], Written(photometric=0))
    assert np.asarray(decode(negative, LIMITS, PreprocessingCrop(version=1)))[0, :, 0].tolist() == [0, 128, 255]
    assert shown(negative)[0, :, 0].tolist() == [255, 127, 0]
    assert np.asarray(PIL.Image.open(io.BytesIO(thumbnail(negative, 8, LIMITS)))).ravel()[0] > 250


@pytest.mark.parametrize("order", ORDERS)
def test_version_1_reads_what_it_could_not_read(order: Literal["<", ">"]) -> None:
    data = tiff(coloured("float32"), Written(order=order, photometric=2))
    assert (
        np.abs(np.asarray(decode(data, LIMITS, PreprocessingCrop(version=1))).astype(int) - coloured("uint8")).max()
        <= 1
    )


@pytest.mark.parametrize(
    ("how", "pixels", "named"),
    [
        (Written(compression=34712), np.zeros((2, 2), np.uint16), r"a TIFF of 1 x 16 bits .*method 34712"),
        (Written(photometric=32803), np.zeros((2, 2), np.uint16), r"a TIFF of 1 x 16 bits .*32803"),
        (Written(photometric=6), np.zeros((2, 2, 3), np.uint16), r"a TIFF of 3 x 16 bits"),
        (Written(photometric=2), np.zeros((2, 2, 2), np.float32), r"a TIFF of 2 x 32 floating bits"),
        (Written(), np.zeros((2, 2, 90), np.float32), r"a TIFF of 90 x 32 floating bits"),
        (Written(photometric=2), np.zeros((2, 2, 3), np.int64), None),
    ],
)
def test_what_is_not_read_is_called_by_its_name(how: Written, pixels: NDArray[Any], named: str | None) -> None:
    if named is None:
        assert shown(tiff(pixels, how)).shape == (2, 2, 3)
        return
    with pytest.raises(UnsupportedFormat, match=named):
        decode(tiff(pixels, how), LIMITS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_of_one_is_damaged_and_too_large_a_one_too_large(layout: str) -> None:
    data = tiff(wide(GREYS["float32"], 40), Written(**LAYOUTS[layout] | {"predictor": 1}))
    with pytest.raises(InvalidPicture, match="ends too early"):
        decode(data[: len(data) // 2], LIMITS)
    place = data.rfind(b"\x00\x01\x03\x00") + (12 if layout == "big" else 8)
    huge = data[:place] + b"\xff\xff" + data[place + 2 :]
    with pytest.raises(TooLarge, match="65,535 x 40 pixels"):
        decode(huge, LIMITS)
