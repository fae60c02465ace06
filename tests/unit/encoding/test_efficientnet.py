import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from PIL.Image import Resampling
from PIL.ImageFilter import GaussianBlur
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from benchmarks.sample_pictures import photographs
from visual_memory.services.encoding import efficientnet, fused_efficientnet
from visual_memory.services.encoding import load_encoder as module
from visual_memory.services.encoding.efficientnet import load_published_network, prepare, scale_pixels
from visual_memory.services.encoding.encoder_contract import Encoder, EncoderUnusable
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN_CROP
from visual_memory.services.encoding.fused_efficientnet import FusedEfficientNet, round_keeping_sums
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.encoding.sentence_transformers_module import EfficientNetLite0
from visual_memory.services.settings import EncoderSettings

PICTURES = [
    PIL.Image.merge("RGB", [PIL.Image.effect_noise((width, height), spread) for spread in (30, 60, 90)])
    for width, height in ((224, 224), (300, 200), (97, 350), (8, 8), (1, 1))
]
SEEN = [BUILT_IN_CROP.apply(picture) for picture in PICTURES]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EncoderSettings(precision="float32", batch_size=2))


@pytest.mark.parametrize(("processor", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_is_taken_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, processor: bool, precision: str
) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda: processor)
    found, named = load_encoder(EncoderSettings()), EncoderSettings.model_validate({"precision": precision})
    assert found.batch_size == 8
    assert np.array_equal(found.encode(SEEN[:2]), load_encoder(named).encode(SEEN[:2]))


@pytest.mark.parametrize(("precision", "pictures"), [("float32", 5), ("bfloat16", 3)])
def test_it_gives_unit_rows_in_order_whatever_is_beside_them(precision: str, pictures: int) -> None:
    encoder = load_encoder(EncoderSettings.model_validate({"precision": precision, "batch_size": 2}))
    found = encoder.encode(SEEN[:pictures])
    assert (encoder.name, encoder.dimension, encoder.batch_size) == (identify(EncoderSettings()).name, 1280, 2)
    assert found.shape == (pictures, 1280)
    assert found.dtype == np.float32
    for picture, row in zip(SEEN[:pictures], found, strict=True):
        assert np.abs(encoder.encode([picture])[0] - row).max() < 1e-4
    assert encoder.encode([]).shape == (0, 1280)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Photographs, and the same ones blurred: those are hard for a coarse network."""
    pictures = [PIL.Image.open(io.BytesIO(data)).convert("RGB") for data in photographs(2)]
    pictures += [each.filter(GaussianBlur(20)) for each in pictures]
    return scale_pixels(prepare([BUILT_IN_CROP.apply(each) for each in pictures])["pixels"])


@torch.inference_mode()
def published(pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    features: torch.Tensor = load_published_network().to(dtype).extract_features(pixels.to(dtype))
    return features.mean((2, 3)).float()


@torch.inference_mode()
def agreement(pixels: torch.Tensor, found: torch.Tensor) -> float:
    """The least cosine to the published network's vectors."""
    return torch.cosine_similarity(published(pixels), found).min().item()


@pytest.mark.parametrize("one_call", [True, False])
def test_folding_changes_the_speed_and_not_the_vectors(
    pixels: torch.Tensor, one_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_call:
        monkeypatch.setattr(fused_efficientnet, "supports_fused_convolution", lambda _dtype: False)
    assert agreement(pixels, FusedEfficientNet(load_published_network(), torch.float32, "cpu")(pixels)) >= 0.99999


def test_in_half_precision_it_agrees_where_the_published_network_does_not(pixels: torch.Tensor) -> None:
    spared = FusedEfficientNet(load_published_network(), torch.bfloat16, "cpu")(pixels)
    assert agreement(pixels, spared) >= 0.999 > agreement(pixels, published(pixels, torch.bfloat16))


def test_rounding_keeps_the_sums_of_filters() -> None:
    weight = torch.randn(64, 1, 3, 3, generator=torch.manual_seed(0))
    rounded = round_keeping_sums(weight, torch.bfloat16)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert (rounded - weight).abs().max() <= weight.abs().max() * 2**-7
    lost, plainly = ((each - weight).sum((1, 2, 3)).abs() for each in (rounded, weight.bfloat16().float()))
    assert lost.max() < 0.1 * plainly.max()


@pytest.mark.parametrize("size", [(256, 256), (256, 341), (512, 256), (300, 900)])
def test_the_middle_is_that_of_resize_and_crop(size: tuple[int, int]) -> None:
    picture = PIL.Image.radial_gradient("L").convert("RGB").resize(size)
    scale = 256 / min(size)
    whole = picture.resize((round(size[0] * scale), round(size[1] * scale)), Resampling.BICUBIC)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    by_hand = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.int16)
    first = replace(BUILT_IN_CROP, version=1).apply(picture)
    assert np.abs(np.asarray(first, np.int16) - by_hand).max() <= 2
    second = prepare([BUILT_IN_CROP.apply(picture)])["pixels"][0].permute(1, 2, 0).numpy().astype(np.int16)
    assert np.abs(second - by_hand).max() <= 3


def test_what_is_no_view_of_a_picture_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="300 x 200; efficientnet-lite0 needs a square crop"):
        encoder.encode([SEEN[0], PICTURES[1]])


def test_it_is_a_module_of_sentence_transformers(encoder: Encoder, tmp_path: Path) -> None:
    model = SentenceTransformer(modules=[EfficientNetLite0(load_published_network()), Normalize()], device="cpu")
    model.save(str(tmp_path), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    assert np.abs(loaded.encode(PICTURES, batch_size=2) - encoder.encode(SEEN)).max() < 1e-5


def test_damaged_weights_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "BUILT_IN_WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EncoderUnusable, match="damaged"):
        load_published_network()


def test_a_missing_device_is_said() -> None:
    with pytest.raises(EncoderUnusable, match="cuda:99"):
        load_encoder(EncoderSettings(device="cuda:99"))


def test_the_number_of_threads_is_set() -> None:
    before = torch.get_num_threads()
    fixed = EncoderSettings(precision="float32", batch_size=2)
    try:
        load_encoder(fixed.model_copy(update={"threads": 1}))
        assert torch.get_num_threads() == 1
        load_encoder(fixed)
        assert torch.get_num_threads() == 1  # left as it was
    finally:
        torch.set_num_threads(before)
