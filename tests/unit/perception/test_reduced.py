"""Decoding for an encoder: as if everything were decoded and then made smaller, and just as strict."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFilter
from PIL.Image import Resampling
from sklearn.datasets import load_sample_images

from schemas.errors import InvalidPicture
from services.perception.decoding import Limits, decode
from services.perception.efficientnet import central
from services.perception.loading import load_encoder
from services.perception.pixels import pack, unpack
from services.settings import EncoderSettings
from tests.hostile import SEEDS, packed

LIMITS = Limits(max_bytes=2**24, max_pixels=20_000_000)
SIDE = 32
PHOTOGRAPHS = [PIL.Image.fromarray(image) for image in load_sample_images().images]
MODES = [("JPEG", mode) for mode in ("RGB", "L", "CMYK")] + [
    (kind, mode) for kind in ("PNG", "WEBP", "TIFF") for mode in ("RGB", "RGBA")
]


def made_small(picture: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """The slow way: every pixel is there first."""
    short = min(picture.size)
    if short <= side:
        return picture
    width, height = (side + 2 * ((length * side - short * side) // (2 * short)) for length in picture.size)
    across, down = width * short / side / 2, height * short / side / 2
    x, y = picture.width / 2, picture.height / 2
    return picture.resize((width, height), Resampling.BICUBIC, (x - across, y - down, x + across, y + down))


def apart(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(MODES),
    orientation=st.integers(1, 8),
    size=st.tuples(st.integers(1, 320), st.integers(1, 320)),
    options=st.sampled_from([{}, {"progressive": True}, {"subsampling": 0}]),
)
def test_it_is_the_whole_picture_made_small(
    kind: tuple[str, str], orientation: int, size: tuple[int, int], options: dict[str, Any]
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    photograph = PHOTOGRAPHS[0].resize(size, Resampling.BICUBIC, (200, 100, 300, 200)).convert(kind[1])
    data = packed(photograph, kind[0], exif=exif, **(options if kind[0] == "JPEG" else {}))
    found, expected = decode(data, LIMITS, SIDE), made_small(decode(data, LIMITS), SIDE)
    assert apart(found, expected) <= (6 if kind[0] == "JPEG" else 0.5)
    assert min(found.size) == min(SIDE, *size)
    assert (found.mode, found.info) == ("RGB", {})


@pytest.mark.parametrize("seed", SEEDS)
def test_small_pictures_stay_as_they_are(seed: bytes) -> None:
    assert decode(seed, LIMITS, SIDE).tobytes() == decode(seed, LIMITS).tobytes()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
def test_a_large_jpeg_that_ends_too_early_is_refused_all_the_same(progressive: bool, part: float) -> None:
    data = packed(PHOTOGRAPHS[0], "JPEG", progressive=progressive)
    cut = data[: int(len(data) * part)]
    for side in (0, SIDE):
        with pytest.raises(InvalidPicture, match="damaged or ends too early"):
            decode(cut, LIMITS, side)


def test_the_encoder_sees_the_same() -> None:
    """Photographs with the detail of a large sensor: the vectors agree to 0.995 and more."""
    encoder = load_encoder(EncoderSettings())
    chance = np.random.default_rng(0)
    agreed = []
    for photograph in PHOTOGRAPHS:
        for left in (0, 100, 200):
            part = photograph.resize((2400, 1800), Resampling.BICUBIC, box=(left, 20, left + 400, 320))
            sharp = np.asarray(part.filter(ImageFilter.UnsharpMask(4, 150)), np.float64)
            grainy = PIL.Image.fromarray((sharp + chance.normal(0, 8, sharp.shape)).clip(0, 255).astype(np.uint8))
            data = packed(grainy, "JPEG", quality=92)
            exact, reduced = encoder.encode([decode(data, LIMITS), decode(data, LIMITS, encoder.side)])
            agreed.append(exact @ reduced)
    assert min(agreed) >= 0.995


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (401, 533), (1000, 256), (257, 256), (300, 300)])
def test_the_built_in_encoder_meets_the_pixels_that_it_would_have_computed(size: tuple[int, int]) -> None:
    data = packed(PHOTOGRAPHS[1].resize(size), "PNG")
    exact, reduced = central(decode(data, LIMITS)), central(decode(data, LIMITS, 256))
    assert np.abs(exact.astype(int) - reduced).mean() <= 0.2


def test_pixels_come_back_and_nothing_that_is_damaged() -> None:
    picture = made_small(PHOTOGRAPHS[1], SIDE)
    kept = pack(picture.size, picture.tobytes(), SIDE)
    back = unpack(kept, SIDE)
    assert back is not None
    assert (back.size, back.mode, back.tobytes()) == (picture.size, "RGB", picture.tobytes())
    spoilt = bytearray(kept)
    spoilt[100] ^= 1
    for damaged in (b"", kept[:10], kept[:16], kept[:-1], kept + b"x", bytes(len(kept)), bytes(spoilt)):
        assert unpack(damaged, SIDE) is None
    assert unpack(kept, SIDE + 1) is None


def test_a_file_is_read_to_its_end_at_every_scale() -> None:
    """A scan that breaks off in the middle, with a proper end behind it, is no picture either."""
    data = packed(PHOTOGRAPHS[0].resize((640, 640)), "JPEG", restart_marker_blocks=4)
    whole = PIL.Image.open(io.BytesIO(data))
    whole.load()
    cut = data[: len(data) // 2]
    for side in (0, 8, SIDE, 256):
        with pytest.raises(InvalidPicture):
            decode(cut, LIMITS, side)
