"""Any image model that sentence-transformers or transformers loads, from a hub name or a folder."""

import math
import re
from pathlib import Path
from typing import Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from sentence_transformers.util import is_sentence_transformer_model

from services.perception.encoder import Encoder, EncoderUnusable
from services.perception.sentence import SentenceEncoder

PIL_PROCESSOR = {"backend": "pil"}
"""The image processors of transformers without torchvision: the same numbers whether it is installed or not."""

PoolingName = Literal["auto", "cls", "mean", "pooler"]


def load_pretrained(name: str, pooling: PoolingName, device: str, batch_size: int) -> Encoder:
    """Load an image model.

    Args:
        name: hub name, or a folder.
        pooling: how tokens become one vector. ``auto``: a model that sentence-transformers saved, as it was saved;
            else the projected embedding of a model that joins images and texts (CLIP, SigLIP), the class token
            (DINOv2, DINOv3, ViT), the model's own pooler, or the mean of all tokens: the first that there is.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: most pictures at once.

    Returns:
        An encoder that has embedded its first picture.

    Raises:
        EncoderUnusable: there is no such model, it cannot be loaded, or it takes no pictures.
    """
    try:
        model = _load(name, pooling, device)
        return SentenceEncoder(model, _vector_name(name, pooling), batch_size, _side(model))
    except EncoderUnusable:
        raise
    except Exception as error:  # the libraries raise many kinds, and all mean this
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise EncoderUnusable(
            f"encoder.name {name!r} with pooling {pooling} cannot be loaded as an image model: {reason}"
        ) from error


def _load(name: str, pooling: PoolingName, device: str) -> SentenceTransformer:
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    folder = Path(name).expanduser()
    if looks_local and not folder.is_dir():
        raise EncoderUnusable(f"encoder.name {name!r}: there is no such folder; name a folder, or a model of the hub")
    source = str(folder) if folder.is_dir() else name
    if pooling == "auto" and is_sentence_transformer_model(source):
        model = SentenceTransformer(source, device=device, processor_kwargs=PIL_PROCESSOR)
    else:
        model = SentenceTransformer(modules=_modules(source, pooling), device=device)
    if not model.supports("image"):
        raise EncoderUnusable(f"encoder.name {name!r}: the model takes no pictures; name an image model")
    return model


def _modules(source: str, pooling: PoolingName) -> list[torch.nn.Module]:
    transformer = Transformer(source, processor_kwargs=PIL_PROCESSOR)
    if "image" not in transformer.modality_config:
        return [transformer]
    chosen = _family(transformer) if pooling == "auto" else pooling
    image = transformer.modality_config["image"]
    if chosen == "pooler":
        image["method_output_name"], transformer.module_output_name = "pooler_output", "sentence_embedding"
        return [transformer]
    image["method_output_name"], transformer.module_output_name = "last_hidden_state", "token_embeddings"
    return [transformer, Pooling(transformer.get_embedding_dimension(), chosen)]


def _family(transformer: Transformer) -> Literal["cls", "mean", "pooler"]:
    """How the model's family is meant to be used."""
    if transformer.module_output_name == "sentence_embedding":
        return "pooler"
    if any(name.endswith("cls_token") for name, _ in transformer.model.named_parameters()):
        return "cls"
    outputs = transformer._get_method_output_fields(transformer.model.forward) or []  # noqa: SLF001
    return "pooler" if "pooler_output" in outputs else "mean"


def _side(model: SentenceTransformer) -> int:
    """The short side of the pictures that the model's image processor begins with; 0 where it does not say."""
    processor = getattr(model[0], "processor", None)
    resizes = getattr(processor, "image_processor", processor)
    size = getattr(resizes, "size", None) if getattr(resizes, "do_resize", False) else None
    named = dict(size or {})
    side = named.get("shortest_edge") or max(named.get("height") or 0, named.get("width") or 0)
    return math.ceil(side / (getattr(resizes, "crop_pct", None) or 1))  # so much more, of which it cuts the middle


def _vector_name(name: str, pooling: PoolingName) -> str:
    folder = Path(name).expanduser()
    named = folder.resolve().name if folder.is_dir() else name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", named if pooling == "auto" else f"{named}-{pooling}")
