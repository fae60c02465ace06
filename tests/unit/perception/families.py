"""Tiny models with random weights, each saved into a folder as its family's are."""

from pathlib import Path
from typing import Any

from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE_TOWER = TOWER | {"image_size": 28, "patch_size": 14}
SIZE = {"height": 28, "width": 28}


def dinov2(folder: Path) -> tuple[Any, BitImageProcessorPil]:
    model = evaluated(Dinov2Model(Dinov2Config.from_dict(IMAGE_TOWER | {"mlp_ratio": 2})))
    processor = BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def joined(kind: Any, processor: Any) -> Any:
    """A processor of images and texts; it does not load without a tokenizer."""
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "a</w>": 4, "b</w>": 5}
    return kind(image_processor=processor, tokenizer=CLIPTokenizer(vocab=vocab, merges=[]))


def clip(folder: Path) -> tuple[Any, CLIPImageProcessorPil]:
    text = TOWER | {"hidden_size": 8, "vocab_size": 6, "max_position_embeddings": 8}
    model = evaluated(CLIPModel(CLIPConfig(text_config=text, vision_config=IMAGE_TOWER, projection_dim=12)))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE)
    model.save_pretrained(folder)
    joined(CLIPProcessor, processor).save_pretrained(folder)
    return model, processor


def evaluated(model: Any) -> Any:
    return model.eval()
