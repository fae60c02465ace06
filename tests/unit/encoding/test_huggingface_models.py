"""Tiny models with random weights, built here, against transformers' own computation."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
)

from tests.support.tiny_encoders import TOWER, clip, dinov2
from visual_memory.schemas.encoder import PoolingName
from visual_memory.services.encoding.encoder_contract import Encoder, EncoderUnusable
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.settings import EncoderSettings

PICTURES = [PIL.Image.effect_noise((40 + 9 * n, 60 - 5 * n), 90).convert("RGB") for n in range(5)]


def load_pretrained(name: str, pooling: PoolingName) -> Encoder:
    """With the first preprocessing, in which all but the resizing of large pictures is the processor's own."""
    settings = EncoderSettings(name=name, pooling=pooling, precision="float32", batch_size=2)
    return load_encoder(settings, identify(settings, 1))


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(vectors, dim=1).detach().numpy()


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


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
    assert_same(encoder.encode(PICTURES), unit(by_hand[pooling]))


def test_what_is_not_known_to_agree_in_half_precision_stays_in_float32(tmp_path: Path) -> None:
    dinov2(tmp_path)
    half = EncoderSettings(name=str(tmp_path), precision="bfloat16")
    exact, found, asked = (
        load_encoder(each)
        for each in (half.model_copy(update={"precision": "float32"}), EncoderSettings(name=str(tmp_path)), half)
    )
    assert np.array_equal(found.encode(PICTURES), exact.encode(PICTURES))
    assert not np.array_equal(asked.encode(PICTURES), exact.encode(PICTURES))


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
    assert_same(encoder.encode(PICTURES), unit(by_hand[pooling]))


def test_a_model_that_sentence_transformers_saved_is_loaded_as_saved(tmp_path: Path) -> None:
    dinov2(tmp_path / "bare")
    saved = SentenceTransformer(str(tmp_path / "bare"), device="cpu")
    saved.save(str(tmp_path / "saved"), create_model_card=False)
    by_mean = saved.encode(PICTURES, normalize_embeddings=True)
    assert_same(load_pretrained(str(tmp_path / "saved"), "auto").encode(PICTURES), by_mean)
    by_class_token = load_pretrained(str(tmp_path / "bare"), "auto").encode(PICTURES)
    assert_same(load_pretrained(str(tmp_path / "saved"), "cls").encode(PICTURES), by_class_token)
    assert np.abs(by_class_token - by_mean).max() > 0.01


def test_an_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusable, match="no such folder"):
        load_pretrained(str(tmp_path / "nowhere"), "auto")


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(EncoderUnusable, match="contains no weights"):
        load_pretrained(str(tmp_path), "auto")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderUnusable, match="cannot be loaded as an image model"):
        load_pretrained(str(tmp_path), "auto")


def test_a_model_that_takes_no_pictures(tmp_path: Path) -> None:
    BertModel(BertConfig.from_dict(TOWER | {"vocab_size": 8})).save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    BertTokenizer(vocab={word: at for at, word in enumerate(words)}).save_pretrained(tmp_path)
    for pooling in ("auto", "cls"):
        with pytest.raises(EncoderUnusable, match="accepts no pictures"):
            load_pretrained(str(tmp_path), pooling)
