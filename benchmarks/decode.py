"""Decode in the sandbox and resize for the encoder, against Pillow in this process; on all cores.

The last row is of resizing alone, on one core.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import PIL.Image
import torch
from PIL.Image import Resampling
from sklearn.datasets import load_sample_images

from benchmarks.result_table import Row, compare, rate
from benchmarks.sample_pictures import photographs
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.encoding.resize_to_tensor import resize_to_tensor
from visual_memory.services.settings import EncoderSettings, PictureSettings

CROP = PreprocessingCrop(resize_side=256, crop_side=224)
LARGE = (4000, 3000)
PLAIN = "Pillow: open, convert, resize, crop"
BARE = "a loop over Pillow's reduced scale"
PILLOW = "Pillow: resize"


def measure() -> list[Row]:
    """Large and small photographs."""
    settings, cores = PictureSettings(), os.cpu_count() or 1
    sandbox = SandboxPool(PictureLimits(settings.max_bytes, settings.max_pixels), settings.decode_seconds, cores)
    with ThreadPoolExecutor(cores) as pool:
        decoder = Decoder(sandbox, pool, CROP)

        def each(work: Callable[[bytes], object], pictures: Sequence[bytes]) -> Callable[[], object]:
            return lambda: list(pool.map(work, pictures))

        def ours(data: bytes) -> torch.Tensor:
            return resize_to_tensor(decoder.decode_one("a", data), (CROP.crop_side, CROP.crop_side))

        rows = [
            compare(
                f"decode {stage}, the middle {CROP.crop_side} of a short side of {CROP.resize_side}",
                "pictures/s",
                rate(len(pictures), each(ours, pictures)),
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
    return [*rows, resizing([CROP.apply(PIL.Image.open(io.BytesIO(data)).convert("RGB")) for data in photographs(128)])]


def resizing(crops: Sequence[PIL.Image.Image]) -> Row:
    """Convert the pixels of the sandbox to the input of the network."""
    size = (CROP.crop_side, CROP.crop_side)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    row = compare(
        f"resize {crops[0].width} x {crops[0].height} to {CROP.crop_side} x {CROP.crop_side}, bicubic, one core",
        "pictures/s",
        rate(len(crops), lambda: [resize_to_tensor(crop, size) for crop in crops]),
        {PILLOW: rate(len(crops), lambda: [_pixels(crop.resize(size, Resampling.BICUBIC)) for crop in crops])},
        rounds=9,
        asked={PILLOW: 2},
        note=f"both from a picture of Pillow's to a tensor; cosine of the vectors >= {_agreement(crops):.6f}",
    )
    torch.set_num_threads(before)
    return row


def _pixels(picture: PIL.Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]


def _agreement(crops: Sequence[PIL.Image.Image]) -> float:
    """The smallest cosine between the built-in encoder's vectors of both ways."""
    encoder = load_encoder(EncoderSettings(precision="float32"))
    exact = encoder.encode([crop.resize((CROP.crop_side, CROP.crop_side), Resampling.BICUBIC) for crop in crops])
    return float((exact * encoder.encode(crops)).sum(1).min())


def plain(data: bytes) -> PIL.Image.Image:
    """The usual code: open, convert, resize, crop."""
    picture = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    scale = CROP.resize_side / min(picture.size)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Resampling.BICUBIC)
    left, upper = (small.width - CROP.crop_side) // 2, (small.height - CROP.crop_side) // 2
    return small.crop((left, upper, left + CROP.crop_side, upper + CROP.crop_side))


def reduced(data: bytes) -> PIL.Image.Image:
    """The fastest way with Pillow: a reduced scale."""
    picture = PIL.Image.open(io.BytesIO(data))
    picture.draft(None, (CROP.resize_side, CROP.resize_side))
    return replace(CROP, version=1).apply(picture.convert("RGB"))


def large(number: int) -> list[bytes]:
    """JPEG files of a sensor's size with sensor noise, because enlarged photographs compress too well."""
    chance, originals = np.random.default_rng(0), load_sample_images().images
    noise = chance.normal(0, 6, (LARGE[1], LARGE[0], 1))
    return [_noisy(PIL.Image.fromarray(originals[place % 2]), np.roll(noise, 97 * place)) for place in range(number)]


def _noisy(original: PIL.Image.Image, noise: np.ndarray) -> bytes:
    enlarged = np.asarray(original.resize(LARGE, Resampling.BICUBIC), np.float32) + noise
    out = io.BytesIO()
    PIL.Image.fromarray(enlarged.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()
