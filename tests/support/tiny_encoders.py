"""Tiny models with random weights, each saved into a folder as its family's are."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    EfficientNetConfig,
    EfficientNetModel,
    GemmaTokenizer,
    ResNetConfig,
    ResNetModel,
    Siglip2Config,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE_TOWER = TOWER | {"image_size": 224, "patch_size": 14}
TEXT_TOWER = TOWER | {"vocab_size": 6, "max_position_embeddings": 8}
SIZE = {"height": 224, "width": 224}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

Embed = Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True)
class Family:
    """A model of a family, and how it is meant to be used.

    Attributes:
        model: as it was saved.
        processor: of its pictures.
        embed: from a model and what its processor gives, the vectors, of any length.
    """

    model: Any
    processor: Any
    embed: Embed


def evaluated(model: Any) -> Any:
    return model.eval()


def joined(kind: Any, processor: Any) -> Any:
    """A processor of images and texts; it does not load without a tokenizer."""
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "a</w>": 4, "b</w>": 5}
    return kind(image_processor=processor, tokenizer=CLIPTokenizer(vocab=vocab, merges=[]))


def cls(model: Any, features: Any) -> torch.Tensor:
    tokens: torch.Tensor = model(**features).last_hidden_state
    return tokens[:, 0]


def pooled(model: Any, features: Any) -> torch.Tensor:
    rows: torch.Tensor = model(**features).pooler_output
    return rows.flatten(1)


def projected(model: Any, features: Any) -> torch.Tensor:
    rows: torch.Tensor = model.get_image_features(**features).pooler_output
    return rows


def saved(folder: Path, model: Any, processor: Any, embed: Embed, saves: Any = None) -> Family:
    """A family whose model, and what holds its image processor, are saved in a folder."""
    evaluated(model).save_pretrained(folder)
    (saves or processor).save_pretrained(folder)
    return Family(model, processor, embed)


def dinov2(folder: Path) -> Family:
    model = Dinov2Model(Dinov2Config.from_dict(IMAGE_TOWER | {"mlp_ratio": 2}))
    return saved(folder, model, BitImageProcessorPil(size={"shortest_edge": 256}, crop_size=SIZE), cls)


def dinov2_with_registers(folder: Path) -> Family:
    config = IMAGE_TOWER | {"mlp_ratio": 2, "num_register_tokens": 4}
    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig.from_dict(config))
    return saved(folder, model, BitImageProcessorPil(size={"shortest_edge": 256}, crop_size=SIZE), cls)


def dinov3(folder: Path) -> Family:
    config = TOWER | {"image_size": 224, "patch_size": 16, "num_register_tokens": 4}
    return _dinov3(folder, DINOv3ViTModel(DINOv3ViTConfig.from_dict(config)))


def dinov3_convnext(folder: Path) -> Family:
    return _dinov3(folder, DINOv3ConvNextModel(DINOv3ConvNextConfig.from_dict(STAGES)))


def _dinov3(folder: Path, model: Any) -> Family:
    """The published models name a processor of torchvision's."""
    family = saved(folder, model, ViTImageProcessorPil(size=SIZE, **IMAGENET), pooled)
    file = folder / "preprocessor_config.json"
    published = json.loads(file.read_text()) | {"image_processor_type": "DINOv3ViTImageProcessorFast"}
    file.write_text(json.dumps(published))
    return family


def clip(folder: Path) -> Family:
    text = TEXT_TOWER | {"hidden_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=IMAGE_TOWER, projection_dim=12))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 256}, crop_size=SIZE)
    return saved(folder, model, processor, projected, joined(CLIPProcessor, processor))


def siglip(folder: Path) -> Family:
    model = SiglipModel(SiglipConfig(text_config=TEXT_TOWER, vision_config=IMAGE_TOWER))
    processor = SiglipImageProcessorPil(size=SIZE)
    return saved(folder, model, processor, projected, joined(SiglipProcessor, processor))


def siglip2(folder: Path) -> Family:
    """Of a fixed resolution: the first version's classes, and another tokenizer."""
    model = SiglipModel(SiglipConfig(text_config=TEXT_TOWER, vision_config=IMAGE_TOWER))
    processor = SiglipImageProcessorPil(size=SIZE)
    words = ("<pad>", "<eos>", "<bos>", "<unk>", "a", "b")
    tokenizer = GemmaTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[])
    return saved(folder, model, processor, projected, SiglipProcessor(image_processor=processor, tokenizer=tokenizer))


def siglip2_naflex(folder: Path) -> Family:
    """Of any resolution and shape: as many patches as fit."""
    vision = TOWER | {"num_patches": 16, "patch_size": 16}
    model = Siglip2Model(Siglip2Config(text_config=TEXT_TOWER, vision_config=vision))
    processor = Siglip2ImageProcessorPil()
    return saved(folder, model, processor, projected, joined(Siglip2Processor, processor))


def vit(folder: Path) -> Family:
    return saved(folder, ViTModel(ViTConfig.from_dict(IMAGE_TOWER)), ViTImageProcessorPil(size=SIZE), cls)


def resnet(folder: Path) -> Family:
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    return saved(folder, model, ConvNextImageProcessorPil(size={"shortest_edge": 224}), pooled)


def efficientnet(folder: Path) -> Family:
    size = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128}  # of smaller weights nothing is left
    model = EfficientNetModel(EfficientNetConfig.from_dict(size | {"image_size": 224, "initializer_range": 0.5}))
    return saved(folder, model, EfficientNetImageProcessorPil(size=SIZE), pooled)


def convnext(folder: Path) -> Family:
    model = ConvNextModel(ConvNextConfig.from_dict(STAGES))
    return saved(folder, model, ConvNextImageProcessorPil(size={"shortest_edge": 224}), pooled)


FAMILIES: dict[str, Callable[[Path], Family]] = {
    build.__name__: build
    for build in (
        dinov2,
        dinov2_with_registers,
        dinov3,
        dinov3_convnext,
        clip,
        siglip,
        siglip2,
        siglip2_naflex,
        vit,
        resnet,
        efficientnet,
        convnext,
    )
}
