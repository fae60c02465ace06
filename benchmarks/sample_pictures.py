"""Photographs for measurements: from a folder, or crops of the two that scikit-learn ships."""

import io
import os
import random
from pathlib import Path

import PIL.Image
from sklearn.datasets import load_sample_images

SIZE = (400, 533)


def photographs(number: int) -> list[bytes]:
    """Distinct JPEG files: from the folder in ``BENCH_PICTURES`` if it is set, else random crops."""
    folder = os.environ.get("BENCH_PICTURES")
    if folder:
        files = sorted(Path(folder).rglob("*.jpg"))[:number]
        if len(files) < number:
            raise SystemExit(f"{folder} holds {len(files)} .jpg files, {number} are needed")
        return [file.read_bytes() for file in files]
    chance = random.Random(0)
    originals = [PIL.Image.fromarray(image) for image in load_sample_images().images]
    return [_crop(chance.choice(originals), chance) for _ in range(number)]


def _crop(original: PIL.Image.Image, chance: random.Random) -> bytes:
    width, height = chance.uniform(150, 300), chance.uniform(200, 400)
    left, top = chance.uniform(0, original.width - width), chance.uniform(0, original.height - height)
    out = io.BytesIO()
    original.resize(SIZE, box=(left, top, left + width, top + height)).save(out, "JPEG", quality=90)
    return out.getvalue()
