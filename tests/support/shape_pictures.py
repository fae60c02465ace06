"""Real pictures for the tests: coloured shapes that an encoder tells apart, no two of them the same."""

import io
from itertools import count

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

SIZE = 96
KINDS = ("disc", "bars", "checks", "cross")
_seeds = count()


def picture(kind: str, file_format: str = "PNG") -> bytes:
    """The file of a new picture of a kind; every call draws another one."""
    random = np.random.default_rng(next(_seeds))
    image = PIL.Image.new("RGB", (SIZE, SIZE))
    draw = PIL.ImageDraw.Draw(image)
    shift, step = int(random.integers(0, 8)), int(random.integers(14, 18))
    match kind:
        case "disc":
            draw.rectangle((0, 0, SIZE, SIZE), "white")
            draw.ellipse((12 + shift, 12, 70 + shift, 70), "red")
        case "bars":
            for start in range(shift, SIZE, step):
                draw.rectangle((start, 0, start + step // 2, SIZE), "blue")
        case "checks":
            for x in range(shift, SIZE, step):
                for y in range(x % 2, SIZE, step):
                    draw.rectangle((x, y, x + step // 2, y + step // 2), "yellow")
        case "cross":
            draw.rectangle((0, 0, SIZE, SIZE), "green")
            draw.line((shift, 0, SIZE, SIZE - shift), "white", 14)
            draw.line((SIZE, shift, 0, SIZE), "white", 14)
        case _:
            raise ValueError(kind)
    noise = random.integers(-6, 7, (SIZE, SIZE, 3))
    noisy = np.clip(np.asarray(image, np.int64) + noise, 0, 255).astype(np.uint8)
    return as_file(PIL.Image.fromarray(noisy), file_format)


def as_file(image: PIL.Image.Image, file_format: str = "PNG") -> bytes:
    """The bytes of a file in a format that Pillow writes."""
    out = io.BytesIO()
    image.save(out, file_format)
    return out.getvalue()


def as_npy(vectors: NDArray[np.float32]) -> bytes:
    """The bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, vectors)
    return out.getvalue()
