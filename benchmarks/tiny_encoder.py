"""An encoder that costs next to nothing, so that all else of a service can be measured."""

from pathlib import Path

from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

SHORT, SIDE = 256, 32


def tiny_encoder(folder: Path, dimension: int = 64) -> Path:
    """Save a vision transformer of one layer with random weights; it looks at the very middle of its pictures."""
    config = Dinov2Config(
        hidden_size=dimension, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=SIDE, patch_size=16
    )
    Dinov2Model(config).save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    BitImageProcessorPil(size={"shortest_edge": SHORT}, crop_size=crop).save_pretrained(folder)
    return folder
