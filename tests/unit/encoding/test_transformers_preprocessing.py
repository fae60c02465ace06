"""What is taken over from the image processors of transformers, and what is left to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_sample_images
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.encoding.transformers_preprocessing import Resize, take_over_resize

PHOTOGRAPH = PIL.Image.fromarray(load_sample_images().images[0]).resize((490, 320))
CROP = {"height": 224, "width": 224}
TAKEN: list[tuple[Any, Resize]] = [
    (CLIPImageProcessorPil(), Resize(PreprocessingCrop(224, 224), (224, 224), "bicubic")),
    (
        BitImageProcessorPil(size={"shortest_edge": 256}, crop_size=CROP),
        Resize(PreprocessingCrop(256, 224), (224, 224), "bicubic"),
    ),
    (BitImageProcessorPil(do_center_crop=False), Resize(PreprocessingCrop(224), None, "bicubic")),
    (SiglipImageProcessorPil(), Resize(PreprocessingCrop(224, squash=True), (224, 224), "bicubic")),
    (ViTImageProcessorPil(), Resize(PreprocessingCrop(224, squash=True), (224, 224), "bilinear")),
    (
        ConvNextImageProcessorPil(size={"shortest_edge": 224}),
        Resize(PreprocessingCrop(256, 224), (224, 224), "bicubic"),
    ),
    (ConvNextImageProcessorPil(), Resize(PreprocessingCrop(384, squash=True), (384, 384), "bicubic")),
    (EfficientNetImageProcessorPil(), Resize(PreprocessingCrop(346, squash=True), (346, 346), "bicubic")),
    (
        EfficientNetImageProcessorPil(do_center_crop=True),
        Resize(PreprocessingCrop(346, squash=True), (346, 346), "bicubic"),
    ),
]


def pixels(processor: Any, pictures: Sequence[PIL.Image.Image]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = processor(list(pictures), return_tensors="pt")
    return found


@pytest.mark.parametrize(("processor", "expected"), TAKEN, ids=lambda each: type(each).__name__)
def test_the_usual_ways_are_taken_over_and_give_what_the_processor_gave(processor: Any, expected: Resize) -> None:
    own = pixels(processor, [PHOTOGRAPH])["pixel_values"].numpy()
    found = take_over_resize(processor, lambda pictures: pixels(processor, pictures))
    assert found == expected
    ours = pixels(processor, [found(found.crop.apply(PHOTOGRAPH))])["pixel_values"].numpy()
    assert ours.shape == own.shape
    assert np.abs(ours - own).mean() <= 0.1 * own.std(), "but for where it cuts between two pixels"


@pytest.mark.parametrize(
    "processor",
    [
        LevitImageProcessorPil(),  # resizes to more than it says
        PerceiverImageProcessorPil(),  # cuts before it resizes
        Siglip2ImageProcessorPil(),  # names no size
        ViTImageProcessorPil(do_resize=False),
        ViTImageProcessorPil(resample=PIL.Image.Resampling.NEAREST),
    ],
    ids=lambda each: type(each).__name__,
)
def test_any_other_way_stays_the_processors(processor: Any) -> None:
    own = pixels(processor, [PHOTOGRAPH])["pixel_values"]
    assert take_over_resize(processor, lambda pictures: pixels(processor, pictures)) is None
    assert (pixels(processor, [PHOTOGRAPH])["pixel_values"] == own).all()


def test_where_there_is_no_processor_nothing_is_taken_over() -> None:
    assert take_over_resize(None, lambda _pictures: {}) is None
