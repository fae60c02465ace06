"""Compare an encoder's vectors in bfloat16 with float32: ``python -m benchmarks.agreement [NAME or FOLDER ...]``.

The least cosine to the vectors in float32, over photographs and over the same ones blurred or pale: where a network's
first layers take differences of neighbours, a rounded weight lets through some of the brightness, and in a sky there
is little else.
"""

import io
import sys
from collections.abc import Sequence

import PIL.Image
from PIL.ImageEnhance import Contrast
from PIL.ImageFilter import GaussianBlur

from benchmarks.sample_pictures import photographs
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.settings import EncoderSettings

PICTURES = 400


def main(names: Sequence[str]) -> None:
    """Compare each encoder with itself."""
    pictures = [PIL.Image.open(io.BytesIO(data)).convert("RGB") for data in photographs(PICTURES)]
    kinds = {
        "photographs": pictures,
        "blurred": [each.filter(GaussianBlur(20)) for each in pictures],
        "pale": [Contrast(each).enhance(0.1) for each in pictures],
    }
    for name in names:
        cosines = {kind: agreement(name, some) for kind, some in kinds.items()}
        print(f"{name}, {PICTURES} pictures each:", ", ".join(f"{kind} {least:.4f}" for kind, least in cosines.items()))


def agreement(name: str, pictures: Sequence[PIL.Image.Image]) -> float:
    """The smallest cosine between the vectors of both precisions."""
    exact, half = (
        load_encoder(EncoderSettings.model_validate({"name": name, "precision": precision}))
        for precision in ("float32", "bfloat16")
    )
    crops = [exact.crop.apply(picture) for picture in pictures]
    return float((half.encode(crops) * exact.encode(crops)).sum(1).min())


if __name__ == "__main__":
    main(sys.argv[1:] or [BUILT_IN])
