"""Resizing beside the encoder, against Pillow's."""

import numpy as np
import PIL.Image
import pytest
from PIL.Image import Resampling
from sklearn.datasets import load_sample_images

from benchmarks.decode import large
from benchmarks.sample_pictures import photographs
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.encoding.resize_to_tensor import Filter, resize_to_tensor
from visual_memory.services.settings import EncoderSettings

PHOTOGRAPH = PIL.Image.fromarray(load_sample_images().images[0])
FILTERS: dict[Filter, Resampling] = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR}
LIMITS = PictureLimits(2**24, 2**24)


@pytest.mark.parametrize("by", FILTERS)
@pytest.mark.parametrize("size", [(224, 224), (32, 256), (518, 300), (1, 1)])
@pytest.mark.parametrize("before", [(1, 1), (8, 1), (1, 8), (3, 2), (223, 225), (224, 224), (600, 400)])
def test_the_pixels_are_pillows_but_for_rounding(before: tuple[int, int], size: tuple[int, int], by: Filter) -> None:
    picture = PHOTOGRAPH.resize(before)
    found = resize_to_tensor(picture, size, by)
    assert found.shape == (1, 3, size[1], size[0])
    expected = np.asarray(picture.resize(size, FILTERS[by]), np.int16)
    apart = np.abs(found[0].permute(1, 2, 0).numpy().astype(np.int16) - expected)
    assert apart.max() <= 4
    assert apart.mean() <= 0.2


def test_the_vectors_are_those_of_pillows_pixels() -> None:
    encoder = load_encoder(EncoderSettings(precision="float32"))
    crops = [decode(data, LIMITS, encoder.crop) for data in (*photographs(12), *large(2))]
    exact = encoder.encode([crop.resize((224, 224), Resampling.BICUBIC) for crop in crops])
    assert (exact * encoder.encode(crops)).sum(1).min() >= 0.9999
