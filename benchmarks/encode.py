"""Encode decoded pictures to unit vectors, against the network alone and sentence-transformers.

The bare limit is the network alone on pixels that were prepared before, in a loop of PyTorch's calls: the best over
precisions and batch sizes of all that agree with float32 as the product asks for.
"""

import copy
import io
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import PIL.Image
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from benchmarks.result_table import Row, compare, milliseconds, rate, seconds
from benchmarks.sample_pictures import photographs
from visual_memory.services.encoding.efficientnet import load_published_network, prepare, scale_pixels
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN_CROP
from visual_memory.services.encoding.fused_efficientnet import FusedEfficientNet
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.encoding.sentence_transformers_module import EfficientNetLite0
from visual_memory.services.encoding.torch_encoder import Features, Forward, embed_batches
from visual_memory.services.settings import EncoderSettings

PICTURES, FEWER = 128, 32
"""Pictures per batch, for the built-in encoder and for DINOv2."""
SIZES = (1, 2, 4, 8, 16)
AGREEMENT = 0.999
"""The smallest cosine to float32 that an alternative may have."""
BARE, PLAIN = "the network alone", "plain SentenceTransformer.encode"


class Plain(EfficientNetLite0):
    """The module with the usual memory layout, channels first."""

    def preprocess(self, inputs: Sequence[PIL.Image.Image], **_: Any) -> dict[str, torch.Tensor]:
        return {"pixels": super().preprocess(inputs)["pixels"].contiguous()}


def measure() -> list[Row]:
    """Measure every encoder."""
    pictures = [short(PIL.Image.open(io.BytesIO(data)).convert("RGB")) for data in photographs(PICTURES)]
    with tempfile.TemporaryDirectory() as folder:
        return [*built_in(pictures), *dinov2(pictures[:FEWER], folder)]


def built_in(pictures: Sequence[PIL.Image.Image]) -> list[Row]:
    """The built-in encoder, with many pictures and with one."""
    encoder = load_encoder(EncoderSettings())
    crops = [BUILT_IN_CROP.apply(picture) for picture in pictures]
    pixels = prepare(crops)["pixels"]
    plain = SentenceTransformer(modules=[Plain(load_published_network()), Normalize()], device="cpu")
    published = load_published_network().to(memory_format=torch.channels_last)
    half = copy.deepcopy(published).bfloat16()
    fused, fused_half = (FusedEfficientNet(published, dtype, "cpu") for dtype in (torch.float32, torch.bfloat16))
    bare: dict[str, Forward] = {
        "published, float32": lambda given: published.extract_features(scale_pixels(given["pixels"])).mean((2, 3)),
        "published, bfloat16": lambda given: half.extract_features(scale_pixels(given["pixels"]).bfloat16()).mean(
            (2, 3)
        ),
        "fused, float32": lambda given: fused(scale_pixels(given["pixels"])),
        "fused, bfloat16": lambda given: fused_half(scale_pixels(given["pixels"])),
    }
    one, first, quick = crops[:1], split(pixels[:1], 1), bare[best(bare, pixels[:2], (1,))[0]]
    return [
        bulk("built-in encoder", encoder, pictures, bare, pixels, plain, {BARE: 0.9, PLAIN: 6}),
        compare(
            "built-in encoder, one picture",
            "ms",
            milliseconds(lambda: encoder.encode(one)),
            {
                BARE: milliseconds(lambda: embed_batches(quick, first)),
                PLAIN: milliseconds(lambda: plain.encode([*pictures[:1]])),
            },
            rounds=15,
        ),
    ]


def dinov2(pictures: Sequence[PIL.Image.Image], folder: str) -> list[Row]:
    """DINOv2 ViT-S/14 at 224 pixels, with random weights."""
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14, image_size=224)
    size = {"shortest_edge": BUILT_IN_CROP.resize_side}
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(size=size, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    encoder = load_encoder(EncoderSettings(name=folder, precision="bfloat16"))  # as one sets where it agrees
    plain = SentenceTransformer(folder, device="cpu")
    pixels = plain.preprocess([*pictures])["pixel_values"]
    exact = Dinov2Model.from_pretrained(folder)
    half = copy.deepcopy(exact).bfloat16()
    bare: dict[str, Forward] = {
        "float32": lambda given: exact(given["pixels"]).last_hidden_state[:, 0],
        "bfloat16": lambda given: half(given["pixels"].bfloat16()).last_hidden_state[:, 0],
    }
    return [bulk("DINOv2 ViT-S/14", encoder, pictures, bare, pixels, plain, {BARE: 0.9, PLAIN: 6})]


def bulk(
    stage: str,
    encoder: Encoder,
    pictures: Sequence[PIL.Image.Image],
    bare: Mapping[str, Forward],
    pixels: torch.Tensor,
    plain: SentenceTransformer,
    asked: Mapping[str, float],
) -> Row:
    """A row for many pictures at once."""
    crops = [encoder.crop.apply(picture) for picture in pictures]
    name, size = best(bare, pixels)
    agree = float((encoder.encode(crops) * embed_batches(next(iter(bare.values())), split(pixels, 8))).sum(1).min())
    return compare(
        f"{stage}, {len(pictures)} pictures",
        "pictures/s",
        rate(len(crops), lambda: encoder.encode(crops)),
        {
            BARE: rate(len(pictures), lambda: embed_batches(bare[name], split(pixels, size))),
            PLAIN: rate(len(pictures), lambda: plain.encode([*pictures])),
        },
        rounds=3,
        asked=asked,
        note=f"batches of {encoder.batch_size}; alone: {name}, batches of {size}; cosine to float32 >= {agree:.4f}",
    )


def best(ways: Mapping[str, Forward], pixels: torch.Tensor, sizes: Sequence[int] = SIZES) -> tuple[str, int]:
    """The fastest variant and batch size among those that agree with the first variant."""
    exact, *_ = ways.values()
    few = pixels[: max(SIZES)]
    wanted = embed_batches(exact, split(few, 8))
    agreeing = {
        name: way
        for name, way in ways.items()
        if (embed_batches(way, split(few, 8)) * wanted).sum(1).min() >= AGREEMENT
    }
    taken = {
        (name, size): min(seconds(partial(embed_batches, way, split(few, size))) for _ in range(2))
        for name, way in agreeing.items()
        for size in sizes
    }
    return min(taken, key=taken.__getitem__)


def split(pixels: torch.Tensor, size: int) -> list[Features]:
    """Split pixels into batches."""
    return [{"pixels": part} for part in pixels.split(size)]  # type: ignore[no-untyped-call]


def short(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A picture with the short side that encoders resize to."""
    scale = BUILT_IN_CROP.resize_side / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))
