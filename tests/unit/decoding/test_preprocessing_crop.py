"""Decoding for an encoder: as if everything were decoded and then made smaller, and just as strict."""

import io
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
import PIL.Image
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import ImageFilter
from PIL.Image import Resampling
from sklearn.datasets import load_sample_images

from tests.support.damaged_pictures import SEEDS, packed
from visual_memory.schemas.errors import InvalidPicture
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.serialize_pixels import pack, unpack
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.settings import EncoderSettings

LIMITS = PictureLimits(max_bytes=2**24, max_pixels=20_000_000)
FIRST = [PreprocessingCrop(32, version=1), PreprocessingCrop(32, 28, version=1)]
SECOND = [PreprocessingCrop(128), PreprocessingCrop(128, 112), PreprocessingCrop(128, squash=True)]
CROPS = [*FIRST, *SECOND]
THIN = [(1, 100_000), (100_000, 1), (3, 42), (420, 30), (1, 9), (40, 4_000)]
PHOTOGRAPHS = [PIL.Image.fromarray(image) for image in load_sample_images().images]
MODES = [("JPEG", mode) for mode in ("RGB", "L", "CMYK")] + [
    (kind, mode) for kind in ("PNG", "WEBP", "TIFF") for mode in ("RGB", "RGBA")
]


def made_small(picture: PIL.Image.Image, crop: PreprocessingCrop) -> PIL.Image.Image:
    """The slow way of version 1: every pixel is there first."""
    short, side = min(picture.size), crop.resize_side
    x, y = picture.width / 2, picture.height / 2
    taken = [min(each, 8 * short) for each in picture.size]
    if short <= side and not crop.crop_side:
        return picture.crop((x - taken[0] / 2, y - taken[1] / 2, x + taken[0] / 2, y + taken[1] / 2))
    width, height = (crop.crop_side or side + 2 * ((each * side - short * side) // (2 * short)) for each in taken)
    across, down = width * short / side / 2, height * short / side / 2
    return picture.resize((width, height), Resampling.BICUBIC, (x - across, y - down, x + across, y + down))


def apart(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(MODES),
    orientation=st.integers(1, 8),
    size=st.tuples(st.integers(1, 320), st.integers(1, 320)),
    crop=st.sampled_from(FIRST),
    options=st.sampled_from([{}, {"progressive": True}, {"subsampling": 0}]),
)
def test_of_version_1_it_is_the_whole_picture_made_small(
    kind: tuple[str, str], orientation: int, size: tuple[int, int], crop: PreprocessingCrop, options: dict[str, Any]
) -> None:
    cut = max(0, max(size) - 8 * min(size))
    assume(cut % 2 == 0)  # else it depends on the orientation at which end of a thin one a pixel more is cut off
    data = _file(kind, orientation, size, options)
    found, expected = decode(data, LIMITS, crop), made_small(decode(data, LIMITS), crop)
    assert apart(found, expected) <= (6 if kind[0] == "JPEG" else 0.5)
    assert min(found.size) == (crop.crop_side or min(crop.resize_side, *size))
    assert (found.mode, found.info) == ("RGB", {})


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(MODES),
    orientation=st.integers(1, 8),
    size=st.tuples(st.integers(64, 700), st.integers(64, 700)),
    crop=st.sampled_from(SECOND),
    options=st.sampled_from([{}, {"progressive": True}, {"subsampling": 0}]),
)
def test_of_version_2_it_is_a_part_that_the_encoder_makes_as_small(
    kind: tuple[str, str], orientation: int, size: tuple[int, int], crop: PreprocessingCrop, options: dict[str, Any]
) -> None:
    """Resized it is what the exact part would be, resized in one step, but for a shift by one of its pixels."""
    data = _file(kind, orientation, size, options)
    found, whole = decode(data, LIMITS, crop), decode(data, LIMITS)
    short, target = min(size), (crop.crop_side or crop.resize_side,) * 2
    across, down = (
        min(each, short * crop.crop_side / crop.resize_side if crop.crop_side else 8 * short) / 2 for each in whole.size
    )

    def part(shift: float) -> PIL.Image.Image:
        x, y = whole.width / 2, whole.height / 2
        box = (x - across + shift, y - down + shift, x + across - shift, y + down - shift)
        return whole.resize(target, Resampling.BICUBIC, box)

    pixel = max(1, short / crop.resize_side)
    shifted = apart(part(0), part(pixel))
    assert apart(found.resize(target, Resampling.BICUBIC), part(0)) <= shifted + (6 if kind[0] == "JPEG" else 3)
    assert (found.mode, found.info) == ("RGB", {})
    assert found.width * found.height <= crop.max_pixels(size[0] * size[1])


def _file(kind: tuple[str, str], orientation: int, size: tuple[int, int], options: dict[str, Any]) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    photograph = PHOTOGRAPHS[0].resize(size, Resampling.BICUBIC, (200, 100, 300, 200)).convert(kind[1])
    return packed(photograph, kind[0], exif=exif, **(options if kind[0] == "JPEG" else {}))


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)) | st.sampled_from(THIN),
    side=st.integers(1, 64),
    middle=st.integers(0, 64),
    version=st.sampled_from([1, 2]),
    squash=st.booleans(),
)
def test_a_crop_is_never_larger_than_it_says(
    size: tuple[int, int], side: int, middle: int, version: Literal[1, 2], squash: bool
) -> None:
    crop = PreprocessingCrop(side, min(middle, side), version, squash and not middle and version == 2)
    found = crop.apply(PIL.Image.new("L", size))
    assert 1 <= found.width * found.height <= crop.max_pixels(size[0] * size[1])
    assert max(found.size) <= (2 if crop.squash else 1) * 8 * min(found.size) * 1.5 + 2


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", THIN)
def test_of_a_thin_picture_the_middle_is_taken(size: tuple[int, int], version: Literal[1, 2]) -> None:
    """Its ends are black and its middle is white."""
    short, across = min(size), size[0] > size[1]
    picture = PIL.Image.new("RGB", size)
    start = (max(size) - 8 * short) // 2
    picture.paste("white", (start, 0, start + 8 * short, short) if across else (0, start, short, start + 8 * short))
    found = decode(packed(picture, "PNG"), LIMITS, PreprocessingCrop(256, version=version))
    assert sorted(found.size) == [short, 8 * short]
    assert (found.width > found.height) == across
    assert found.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("seed", SEEDS)
def test_small_pictures_stay_as_they_are(seed: bytes) -> None:
    assert decode(seed, LIMITS, PreprocessingCrop(32)).tobytes() == decode(seed, LIMITS).tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
def test_a_large_jpeg_that_ends_too_early_is_refused_all_the_same(progressive: bool, part: float) -> None:
    data = packed(PHOTOGRAPHS[0], "JPEG", progressive=progressive)
    cut = data[: int(len(data) * part)]
    for crop in (NO_CROP, *CROPS):
        with pytest.raises(InvalidPicture, match="damaged or ends too early"):
            decode(cut, LIMITS, crop)


@cache
def detailed() -> list[bytes]:
    """Photographs with the detail of a large sensor."""
    chance = np.random.default_rng(0)
    files = []
    for photograph in PHOTOGRAPHS:
        for left in (0, 200):
            part = photograph.resize((2400, 1800), Resampling.BICUBIC, box=(left, 20, left + 400, 320))
            sharp = np.asarray(part.filter(ImageFilter.UnsharpMask(4, 150)), np.float64)
            grainy = PIL.Image.fromarray((sharp + chance.normal(0, 8, sharp.shape)).clip(0, 255).astype(np.uint8))
            files.append(packed(grainy, "JPEG", quality=92))
    return files


@pytest.mark.parametrize("version", [1, 2])
def test_the_encoder_sees_the_same(version: Literal[1, 2]) -> None:
    """The vectors agree to 0.995 and more."""
    settings = EncoderSettings()
    encoder = load_encoder(settings, identify(settings, version))
    agreed = []
    for data in detailed():
        exact, reduced = encoder.encode([encoder.crop.apply(decode(data, LIMITS)), decode(data, LIMITS, encoder.crop)])
        agreed.append(exact @ reduced)
    assert min(agreed) >= 0.995


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (401, 533), (1000, 256), (258, 256), (300, 300)])
def test_of_version_1_one_that_cuts_for_itself_meets_the_pixels_that_it_would_have_computed(
    size: tuple[int, int],
) -> None:
    data, cut = packed(PHOTOGRAPHS[1].resize(size), "PNG"), PreprocessingCrop(256, 224, version=1)
    exact, reduced = decode(data, LIMITS, cut), decode(data, LIMITS, PreprocessingCrop(256, version=1))
    left, top = (reduced.width - 224) // 2, (reduced.height - 224) // 2
    assert apart(exact, reduced.crop((left, top, left + 224, top + 224))) <= 0.2


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (224, 224), (700, 300)])
def test_a_view_with_a_crop_is_a_square_and_of_version_1_always_as_large(size: tuple[int, int]) -> None:
    data = packed(PHOTOGRAPHS[1].resize(size), "PNG")
    assert decode(data, LIMITS, PreprocessingCrop(256, 224, version=1)).size == (224, 224)
    part = 224 if min(size) < 256 else round(min(size) * 224 / 256)
    assert decode(data, LIMITS, PreprocessingCrop(256, 224)).size == (part, part)


@pytest.mark.parametrize("size", [(8, 8), (8, 13), (255, 700)])
def test_of_a_picture_too_small_for_whole_pixels_both_versions_make_the_same_crop(size: tuple[int, int]) -> None:
    data = packed(PHOTOGRAPHS[1].resize(size), "PNG")
    first, second = (decode(data, LIMITS, PreprocessingCrop(256, 224, version=version)) for version in (1, 2))
    assert first.tobytes() == second.tobytes()


def test_pixels_come_back_and_nothing_that_is_damaged() -> None:
    picture = made_small(PHOTOGRAPHS[1], CROPS[0])
    kept = pack(picture.size, picture.tobytes(), CROPS[0])
    back = unpack(kept, CROPS[0])
    assert back is not None
    assert (back.size, back.mode, back.tobytes()) == (picture.size, "RGB", picture.tobytes())
    spoilt = bytearray(kept)
    spoilt[100] ^= 1
    for damaged in (b"", kept[:10], kept[:20], kept[:-1], kept + b"x", bytes(len(kept)), bytes(spoilt)):
        assert unpack(damaged, CROPS[0]) is None
    assert unpack(kept, PreprocessingCrop(33)) is None
    assert unpack(kept, CROPS[1]) is None
    assert unpack(kept, replace(CROPS[0], version=2)) is None
    squashed = pack(picture.size, picture.tobytes(), SECOND[2])
    assert unpack(squashed, SECOND[2]) is not None
    assert unpack(squashed, SECOND[0]) is None


def test_a_file_is_read_to_its_end_at_every_scale() -> None:
    """A scan that breaks off in the middle, with a proper end behind it, is no picture either."""
    data = packed(PHOTOGRAPHS[0].resize((640, 640)), "JPEG", restart_marker_blocks=4)
    whole = PIL.Image.open(io.BytesIO(data))
    whole.load()
    cut = data[: len(data) // 2]
    for crop in (NO_CROP, PreprocessingCrop(8), *CROPS, PreprocessingCrop(256)):
        with pytest.raises(InvalidPicture):
            decode(cut, LIMITS, crop)
