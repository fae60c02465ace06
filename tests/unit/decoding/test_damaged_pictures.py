"""Promise 7: whatever the bytes, a picture or one of our errors comes out, and the same in the sandbox as here."""

import io
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.damaged_pictures import SEEDS, mutated, outcome
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.file_formats.webp import read_webp_size
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, decode_with_thumbnail, thumbnail
from visual_memory.services.decoding.preprocessing_crop import NO_CROP
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool

# As decoding itself asks for outside of pytest, so that the paths behind a warning are tested too.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=1_000_000)
ALLOWED = {"RGB", "InvalidPicture", "UnsupportedFormat", "TooLarge"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    sandbox = SandboxPool(LIMITS, 60, 1)
    with ThreadPoolExecutor(1) as pool:
        yield Decoder(sandbox, pool)
    sandbox.close()


def attack(decoder: Decoder, data: bytes) -> str:
    """Decode in the sandbox, and here where that went well; how it ended."""
    confined = outcome(partial(decoder.decode_one, "a"), data)
    assert confined[0] in ALLOWED, confined
    assert outcome(partial(decode, limits=LIMITS), data) == confined
    assert outcome(lambda data: decode_with_thumbnail(data, LIMITS, NO_CROP, 16)[0], data) == confined
    small = outcome(partial(decoder.thumbnail, "a", side=16), data)
    assert outcome(partial(thumbnail, side=16, limits=LIMITS), data) == small
    return str(confined[0])


def test_the_seeds_are_pictures(decoder: Decoder) -> None:
    assert {attack(decoder, seed) for seed in SEEDS} == {"RGB"}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=mutated())
def test_a_mutated_picture_is_a_picture_or_our_error(decoder: Decoder, data: bytes) -> None:
    attack(decoder, data)


@pytest.mark.parametrize(
    ("kind", "how", "place", "huge"),
    [
        (b"VP8 ", {"lossless": False}, 26, b"\xff\x3f\xff\x3f"),
        (b"VP8L", {"lossless": True}, 21, b"\xff\xff\xff\x0f"),
        (b"VP8X", {"exif": b"Exif\x00\x00II"}, 24, b"\xff\x3f\x00\xff\x3f\x00"),
    ],
)
def test_a_webp_that_announces_too_much_is_too_large(
    decoder: Decoder, kind: bytes, how: dict[str, Any], place: int, huge: bytes
) -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (48, 40), "red").save(out, "WEBP", **how)
    data = out.getvalue()
    assert data[12:16] == kind
    assert read_webp_size(data) == (48, 40)
    assert attack(decoder, data) == "RGB"
    assert attack(decoder, data[:place] + huge + data[place + len(huge) :]) == "TooLarge"


QUIETLY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from tests.support.damaged_pictures import SEEDS, outcome
limits = PictureLimits(2**20, 10**6)
sandbox = SandboxPool(limits, 60, 1)
confined = partial(Decoder(sandbox, ThreadPoolExecutor(1)).decode_one, "a")
for seed in SEEDS:
    for end in range(0, len(seed), int(sys.argv[2])):
        outcome(confined if sys.argv[1] == "sandbox" else lambda data: decode(data, limits), seed[:end])
sandbox.close()
"""


@pytest.mark.parametrize(("where", "step", "quiet"), [("sandbox", "60", True), ("here", "400", False)])
def test_what_the_codecs_say_of_a_picture_does_not_reach_the_log(where: str, step: str, quiet: bool) -> None:
    """They are in C and know no warning filters; in this process libtiff would speak."""
    done = subprocess.run([sys.executable, "-c", QUIETLY, where, step], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr == "") == ("", quiet)
