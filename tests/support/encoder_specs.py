"""Encoders as records say that they are."""

from typing import Any

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.moments import now


def spec(name: str, **other: Any) -> EncoderSpec:
    """An encoder of this name, and whatever else is said of it."""
    given = {
        "name": name,
        "model": "efficientnet-lite0",
        "pooling": "auto",
        "precision": "float32",
        "preprocessing": 2,
        "fingerprint": "0" * 64,
        "dimension": 4,
        "added_at": now(),
    }
    return EncoderSpec.model_validate(given | other)
