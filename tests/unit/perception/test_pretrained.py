"""Tiny models with random weights, built here, against transformers' own computation."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from PIL.ImageFilter import GaussianBlur
from sentence_transformers import SentenceTransformer
from sklearn.datasets import load_sample_images
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
)

from schemas.encoder import PoolingName
from services.perception.encoder import Encoder, EncoderUnusable
from services.perception.loading import load_encoder
from services.settings import EncoderSettings
from tests.unit.perception.families import TOWER, clip, dinov2

PICTURES = [
    PIL.Image.fromarray(load_sample_images().images[n % 2]).filter(GaussianBlur(20)).resize((64 + 9 * n, 110 - 5 * n))
    for n in range(5)
]


def load_pretrained(name: str, pooling: PoolingName) -> Encoder:
    return load_encoder(EncoderSettings(name=name, pooling=pooling, precision="float32", batch_size=2))


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(vectors, dim=1).detach().numpy()


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """But for what resizing by Pillow, and a part that begins between two of so few pixels, make of it."""
    assert found.shape == expected.shape
    assert (found * expected).sum(1).min() >= 0.99


def seen(encoder: Encoder) -> NDArray[np.float32]:
    return encoder.encode([encoder.view.of(picture) for picture in PICTURES])


@pytest.mark.parametrize("pooling", ["auto", "cls", "mean", "pooler"])
def test_dinov2(tmp_path: Path, pooling: PoolingName) -> None:
    family = dinov2(tmp_path / "dinov2-tiny")
    output = family.model(**family.processor(PICTURES, return_tensors="pt"))
    by_hand = {
        "auto": output.last_hidden_state[:, 0],
        "cls": output.last_hidden_state[:, 0],
        "mean": output.last_hidden_state.mean(1),
        "pooler": output.pooler_output,
    }
    encoder = load_pretrained(str(tmp_path / "dinov2-tiny"), pooling)
    base = "dinov2-tiny" if pooling == "auto" else f"dinov2-tiny-{pooling}"
    assert re.fullmatch(f"{base}-[0-9a-f]{{12}}", encoder.name)
    assert encoder.dimension == 16
    assert_same(seen(encoder), unit(by_hand[pooling]))


def test_what_is_not_known_to_agree_in_half_precision_stays_in_float32(tmp_path: Path) -> None:
    dinov2(tmp_path)
    half = EncoderSettings(name=str(tmp_path), precision="bfloat16")
    exact, found, asked = (
        load_encoder(each)
        for each in (half.model_copy(update={"precision": "float32"}), EncoderSettings(name=str(tmp_path)), half)
    )
    assert np.array_equal(seen(found), seen(exact))
    assert not np.array_equal(seen(asked), seen(exact))


@pytest.mark.parametrize("pooling", ["auto", "cls", "mean", "pooler"])
def test_clip(tmp_path: Path, pooling: PoolingName) -> None:
    family = clip(tmp_path)
    model, pixels = family.model, family.processor(PICTURES, return_tensors="pt")
    tokens = model.vision_model(**pixels).last_hidden_state
    projected = model.visual_projection(model.vision_model(**pixels).pooler_output)
    assert torch.equal(projected, model.get_image_features(**pixels).pooler_output)
    by_hand = {"auto": projected, "cls": tokens[:, 0], "mean": tokens.mean(1), "pooler": projected}
    encoder = load_pretrained(str(tmp_path), pooling)
    assert encoder.dimension == (12 if pooling in ("auto", "pooler") else 16)
    assert_same(seen(encoder), unit(by_hand[pooling]))


def test_a_model_that_sentence_transformers_saved_is_loaded_as_saved(tmp_path: Path) -> None:
    dinov2(tmp_path / "bare")
    saved = SentenceTransformer(str(tmp_path / "bare"), device="cpu")
    saved.save(str(tmp_path / "saved"), create_model_card=False)
    by_mean = saved.encode(PICTURES, normalize_embeddings=True)
    assert_same(seen(load_pretrained(str(tmp_path / "saved"), "auto")), by_mean)
    by_class_token = seen(load_pretrained(str(tmp_path / "bare"), "auto"))
    assert_same(seen(load_pretrained(str(tmp_path / "saved"), "cls")), by_class_token)
    assert np.abs(by_class_token - by_mean).max() > 0.01


def test_an_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusable, match="no such folder"):
        load_pretrained(str(tmp_path / "nowhere"), "auto")


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(EncoderUnusable, match="holds no weights"):
        load_pretrained(str(tmp_path), "auto")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderUnusable, match="cannot be loaded as an image model"):
        load_pretrained(str(tmp_path), "auto")


def test_a_model_that_takes_no_pictures(tmp_path: Path) -> None:
    BertModel(BertConfig.from_dict(TOWER | {"vocab_size": 8})).save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    BertTokenizer(vocab={word: at for at, word in enumerate(words)}).save_pretrained(tmp_path)
    for pooling in ("auto", "cls"):
        with pytest.raises(EncoderUnusable, match="takes no pictures"):
            load_pretrained(str(tmp_path), pooling)
