"""Decoding for the encoder, in the sandbox, against Pillow in this process; on all cores, in pictures per second."""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import PIL.Image
from PIL.Image import Resampling
from sklearn.datasets import load_sample_images

from benchmarks.pictures import photographs
from benchmarks.table import Row, compare, rate
from services.perception.decoder import Decoder
from services.perception.decoding import Limits
from services.perception.sandbox import Sandbox
from services.perception.view import View
from services.settings import PictureSettings

VIEW = View(side=256, crop=224)
LARGE = (4000, 3000)
PLAIN = "Pillow: open, convert, resize, crop"
BARE = "a loop over Pillow's reduced scale"


def measure() -> list[Row]:
    """Large and small photographs."""
    settings, cores = PictureSettings(), os.cpu_count() or 1
    sandbox = Sandbox(Limits(settings.max_bytes, settings.max_pixels), settings.decode_seconds, cores)
    with ThreadPoolExecutor(cores) as pool:
        decoder = Decoder(sandbox, pool, VIEW)

        def each(work: Callable[[bytes], object], pictures: Sequence[bytes]) -> Callable[[], object]:
            return lambda: list(pool.map(work, pictures))

        rows = [
            compare(
                f"decode {stage}, the middle {VIEW.crop} of a short side of {VIEW.side}",
                "pictures/s",
                rate(len(pictures), each(partial(decoder.one, "a"), pictures)),
                {
                    PLAIN: rate(len(pictures), each(plain, pictures)),
                    BARE: rate(len(pictures), each(reduced, pictures)),
                },
                asked=asked,
                note=f"{len(pictures[0]) // 1024:,} KiB each; ours in the sandbox, the others in this process",
            )
            for stage, pictures, asked in (
                ("12-megapixel photographs", large(12), {PLAIN: 2.5, BARE: 0.85}),
                ("photographs of 400 x 533", photographs(128), {BARE: 0.85}),
            )
        ]
    sandbox.close()
    return rows


def plain(data: bytes) -> PIL.Image.Image:
    """What a user would write."""
    picture = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    scale = VIEW.side / min(picture.size)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Resampling.BICUBIC)
    left, upper = (small.width - VIEW.crop) // 2, (small.height - VIEW.crop) // 2
    return small.crop((left, upper, left + VIEW.crop, upper + VIEW.crop))


def reduced(data: bytes) -> PIL.Image.Image:
    """The fastest that Pillow does."""
    picture = PIL.Image.open(io.BytesIO(data))
    picture.draft(None, (VIEW.side, VIEW.side))
    return VIEW.of(picture.convert("RGB"))


def large(number: int) -> list[bytes]:
    """So many JPEG files of a sensor's size, with its noise: photographs enlarged would be too easy."""
    chance, originals = np.random.default_rng(0), load_sample_images().images
    noise = chance.normal(0, 6, (LARGE[1], LARGE[0], 1))
    return [_noisy(PIL.Image.fromarray(originals[place % 2]), np.roll(noise, 97 * place)) for place in range(number)]


def _noisy(original: PIL.Image.Image, noise: np.ndarray) -> bytes:
    enlarged = np.asarray(original.resize(LARGE, Resampling.BICUBIC), np.float32) + noise
    out = io.BytesIO()
    PIL.Image.fromarray(enlarged.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()
