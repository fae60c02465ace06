"""Every family of image models, by a tiny one of it, against the family's own computation."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.sample_pictures import photographs
from tests.support.tiny_encoders import FAMILIES, SIZE, Family
from visual_memory.schemas.encoder import EncoderIdentity
from visual_memory.services.decoding.preprocessing_crop import Preprocessing
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.encoding.torch_encoder import TorchEncoder
from visual_memory.services.settings import EncoderSettings

PICTURES = [PIL.Image.effect_noise((40 + 9 * n, 60 - 5 * n), 90).convert("RGB") for n in range(5)]
SIZES = ((533, 400), (400, 533), (900, 300), (260, 260), (70, 90))
LEAST = {1: 0.996, 2: 0.999}
"""Cosine of our pixels to the processor's: of version 1 they are resized twice, of version 2 cut on whole pixels."""
LEAST_OF_SMALL = 0.98
"""The same of pictures that are made larger than they were: half a pixel of theirs is several then."""


@cache
def photograph(size: tuple[int, int]) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(photographs(1)[0])).convert("RGB").resize(size)


class Saved:
    """A model of a family, saved in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self._loaded: dict[tuple[Preprocessing, int], TorchEncoder] = {}
        self.folder = folder
        self.family: Family = FAMILIES[name](folder)
        self.settings = EncoderSettings(name=str(folder), precision="float32", batch_size=2)

    def identity(self, preprocessing: Preprocessing = 2) -> EncoderIdentity:
        return identify(self.settings, preprocessing)

    def encoder(self, preprocessing: Preprocessing = 2, batch_size: int = 2) -> TorchEncoder:
        if (preprocessing, batch_size) not in self._loaded:
            settings = self.settings.model_copy(update={"batch_size": batch_size})
            found = load_encoder(settings, self.identity(preprocessing))
            assert isinstance(found, TorchEncoder)
            self._loaded[preprocessing, batch_size] = found
        return self._loaded[preprocessing, batch_size]


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    torch.manual_seed(0)
    return Saved(request.param, tmp_path_factory.mktemp("models") / f"tiny-{request.param}")


@torch.inference_mode()
def by_hand(family: Family, pictures: list[PIL.Image.Image]) -> NDArray[np.float32]:
    rows = family.embed(family.model, family.processor(pictures, return_tensors="pt"))
    unit: NDArray[np.float32] = torch.nn.functional.normalize(rows, dim=1).numpy()
    return unit


def test_it_computes_what_the_family_is_meant_to_give(saved: Saved) -> None:
    expected, encoder = by_hand(saved.family, PICTURES), saved.encoder(preprocessing=1)
    found = encoder.encode(PICTURES)
    assert found.shape == expected.shape == (len(PICTURES), encoder.dimension)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - found[0]).max() > 1e-4, "all pictures look the same to it"


@pytest.mark.parametrize("preprocessing", [1, 2])
def test_rows_are_of_length_1_in_order_and_the_same_in_any_batch(saved: Saved, preprocessing: Preprocessing) -> None:
    encoder, larger = (saved.encoder(preprocessing, batch_size) for batch_size in (2, 5))
    seen = [encoder.crop.apply(picture) for picture in PICTURES]
    found = encoder.encode(seen)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert np.abs(found - np.concatenate([encoder.encode([each]) for each in seen])).max() < 1e-5
    assert np.abs(found[::-1] - larger.encode(seen[::-1])).max() < 1e-5
    assert encoder.name == saved.identity(preprocessing).name


@pytest.mark.parametrize("preprocessing", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_the_familys_processor(
    saved: Saved, preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    picture = photograph(size)
    own = saved.family.processor([picture], return_tensors="pt")["pixel_values"]
    encoder = saved.encoder(preprocessing)
    found = encoder._network.prepare([encoder.crop.apply(picture)])["pixel_values"]
    assert found.shape == own.shape
    cosine = torch.cosine_similarity(found.flatten(), own.flatten(), 0).item()
    assert cosine >= (LEAST[preprocessing] if min(size) >= SIZE["width"] else LEAST_OF_SMALL)
