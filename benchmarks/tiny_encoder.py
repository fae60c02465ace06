"""A tiny encoder, for measuring everything else."""

from pathlib import Path

from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

SHORT, SIDE = 256, 32


def tiny_encoder(folder: Path, dimension: int = 64) -> Path:
    """Save a vision transformer with one layer and random weights that uses only the centre of pictures."""
    config = Dinov2Config(
        hidden_size=dimension, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=SIDE, patch_size=16
    )
    Dinov2Model(config).save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    BitImageProcessorPil(size={"shortest_edge": SHORT}, crop_size=crop).save_pretrained(folder)
    return folder
