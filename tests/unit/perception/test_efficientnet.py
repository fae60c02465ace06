from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from PIL.Image import Resampling
from sentence_transformers import SentenceTransformer

from services.perception import efficientnet
from services.perception.efficientnet import EfficientNetLite0, central, original, tuned
from services.perception.encoder import EncoderUnusable
from services.perception.loading import load_encoder
from services.perception.sentence import SentenceEncoder
from services.settings import EncoderSettings

PICTURES = [
    PIL.Image.merge("RGB", [PIL.Image.effect_noise((width, height), spread) for spread in (30, 60, 90)])
    for width, height in ((224, 224), (300, 200), (97, 350), (8, 8), (1, 1))
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    encoder = load_encoder(EncoderSettings(batch_size=2))
    assert isinstance(encoder, SentenceEncoder)
    return encoder


def test_it_gives_unit_rows_in_order(encoder: SentenceEncoder) -> None:
    found = encoder.encode(PICTURES)
    assert (encoder.name, encoder.dimension) == ("efficientnet-lite0", 1280)
    assert found.shape == (5, 1280)
    assert found.dtype == np.float32
    for picture, row in zip(PICTURES, found, strict=True):
        assert np.abs(encoder.encode([picture])[0] - row).max() < 1e-4
    assert encoder.encode([]).shape == (0, 1280)


def test_tuning_changes_the_speed_and_not_the_vectors() -> None:
    pixels = EfficientNetLite0(tuned(original())).preprocess(PICTURES)["pixels"]
    with torch.inference_mode():
        plain = original().extract_features((pixels.float() - 127) / 128).mean((2, 3))
        fast = EfficientNetLite0(tuned(original()))({"pixels": pixels})["sentence_embedding"]
    assert torch.cosine_similarity(plain, fast).min() >= 0.99999


def test_no_batch_norm_is_left_and_every_convolution_pads_inside_where_it_can() -> None:
    modules = list(tuned(original()).modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in modules)
    copies = [module for module in modules if isinstance(module, torch.nn.ZeroPad2d)]
    assert len(copies) == 5  # the stem and the four blocks of stride 2: TensorFlow pads those right and below


@pytest.mark.parametrize("size", [(256, 256), (512, 256), (300, 900)])
def test_the_middle_is_that_of_resize_and_crop(size: tuple[int, int]) -> None:
    picture = PIL.Image.radial_gradient("L").convert("RGB").resize(size)
    scale = 256 / min(size)
    whole = picture.resize((round(size[0] * scale), round(size[1] * scale)), Resampling.BICUBIC)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    by_hand = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.int16)
    assert np.abs(central(picture) - by_hand).max() <= 2


def test_it_is_saved_and_loaded(encoder: SentenceEncoder, tmp_path: Path) -> None:
    encoder._model.save(str(tmp_path), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    assert np.abs(loaded.encode(PICTURES, batch_size=2) - encoder.encode(PICTURES)).max() < 1e-6


def test_damaged_weights_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(EncoderUnusable, match="damaged"):
        original()


def test_a_missing_device_is_said() -> None:
    with pytest.raises(EncoderUnusable, match="cuda:99"):
        load_encoder(EncoderSettings(device="cuda:99"))


def test_the_number_of_threads_is_set() -> None:
    before = torch.get_num_threads()
    try:
        load_encoder(EncoderSettings(threads=1))
        assert torch.get_num_threads() == 1
        load_encoder(EncoderSettings(threads=0))
        assert torch.get_num_threads() == 1  # left as it was
    finally:
        torch.set_num_threads(before)
