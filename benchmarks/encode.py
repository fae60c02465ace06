"""Encode: pictures as the decoder gives them to unit vectors, against the network alone and sentence-transformers.

The bare limit is the network alone on pixels that were prepared before, in a loop of PyTorch's calls: the best over
precisions and batch sizes of all that agree with float32 as the product asks for.
"""

import copy
import io
import tempfile
from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from benchmarks.pictures import photographs
from benchmarks.table import Row, compare, milliseconds, rate
from services.perception.choosing import AGREEMENT
from services.perception.efficientnet import central, original, prepare, scaled
from services.perception.encoder import Encoder
from services.perception.folded import Folded
from services.perception.loading import load_encoder
from services.perception.module import EfficientNetLite0
from services.perception.network import Features, Forward, embed
from services.settings import EncoderSettings

SHORT_SIDE = 256
PICTURES, FEWER = 128, 32
"""How many are encoded at a time, by the built-in encoder and by DINOv2."""
SIZES = (1, 2, 4, 8, 16, 32)
BARE, PLAIN = "the network alone", "plain SentenceTransformer.encode"


def measure() -> list[Row]:
    """Encode with all."""
    pictures = [short(PIL.Image.open(io.BytesIO(data)).convert("RGB")) for data in photographs(PICTURES)]
    with tempfile.TemporaryDirectory() as folder:
        return [*built_in(pictures), *dinov2(pictures[:FEWER], folder)]


def built_in(pictures: Sequence[PIL.Image.Image]) -> list[Row]:
    """The encoder that needs no download, in bulk and with one picture."""
    encoder = load_encoder(EncoderSettings())
    pixels = prepare(pictures)["pixels"]
    published = original()
    plain = SentenceTransformer(modules=[EfficientNetLite0(copy.deepcopy(published)), Normalize()], device="cpu")
    half = original().bfloat16().to(memory_format=torch.channels_last)
    last = original().to(memory_format=torch.channels_last)
    bare: dict[str, Forward] = {
        "published, float32": lambda given: last.extract_features(scaled(given["pixels"])).mean((2, 3)),
        "published, bfloat16": lambda given: half.extract_features(scaled(given["pixels"]).bfloat16()).mean((2, 3)),
        "folded, float32": _folded(torch.float32),
        "folded, bfloat16": _folded(torch.bfloat16),
    }
    name, size = best(bare, {"pixels": pixels})
    one, chosen = pictures[:1], bare[name]
    first = {"pixels": pixels[:1]}
    return [
        bulk("built-in encoder", encoder, pictures, bare[name], {"pixels": pixels}, size, plain, name, 6),
        compare(
            "built-in encoder, one picture",
            "ms",
            milliseconds(lambda: encoder.encode(one)),
            {BARE: milliseconds(lambda: embed(chosen, [first])), PLAIN: milliseconds(lambda: plain.encode([*one]))},
            rounds=15,
        ),
    ]


def dinov2(pictures: Sequence[PIL.Image.Image], folder: str) -> list[Row]:
    """DINOv2 ViT-S/14 at 224 pixels, with random weights."""
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14, image_size=224)
    size = {"shortest_edge": SHORT_SIDE}
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(size=size, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    encoder = load_encoder(EncoderSettings(name=folder))
    plain = SentenceTransformer(folder, device="cpu")
    pixels = plain.preprocess([*pictures])["pixel_values"]
    exact = Dinov2Model.from_pretrained(folder).eval()
    half = copy.deepcopy(exact).bfloat16()
    bare: dict[str, Forward] = {
        "float32": lambda given: exact(given["pixels"]).last_hidden_state[:, 0],
        "bfloat16": lambda given: half(given["pixels"].bfloat16()).last_hidden_state[:, 0],
    }
    name, best_size = best(bare, {"pixels": pixels})
    return [bulk("DINOv2 ViT-S/14", encoder, pictures, bare[name], {"pixels": pixels}, best_size, plain, name, None)]
