"""Any image model that sentence-transformers or transformers loads, from a hub name or a folder."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import PIL.Image
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from sentence_transformers.util import is_sentence_transformer_model
from transformers import AutoImageProcessor, DINOv3ViTConfig
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.utils.logging import disable_progress_bar

from visual_memory.schemas.encoder import PoolingName
from visual_memory.services.decoding.preprocessing_crop import Preprocessing, PreprocessingCrop
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.encoding.torch_encoder import Features, Forward, Precision, TorchNetwork
from visual_memory.services.encoding.transformers_preprocessing import take_over_resize

PIL_PROCESSOR = {"backend": "pil"}
"""The image processors of transformers without torchvision: the same numbers whether it is installed or not."""


class DINOv3ViTImageProcessor(ViTImageProcessorPil):  # type: ignore[misc]  # it has no type where it is not read
    """DINOv3's, without torchvision: transformers has none. The same steps; only pixels are rounded between two."""

    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD


AutoImageProcessor.register(  # found by its name, which the models' files have
    DINOv3ViTConfig,
    image_processor_classes={"pil": DINOv3ViTImageProcessor, "torchvision": DINOv3ViTImageProcessor},
    exist_ok=True,
)

disable_progress_bar()  # for weights that are read from the disk; it would be in the logs

MAX_TRANSFORMER_CONVOLUTIONS = 2
"""Convolutions of a transformer: it cuts the picture into patches with one, and gains nothing from channels last."""
DEFAULT_SIDE = 512
"""Side of the pictures for a model that names none, or a picture of 50 megapixels would be a batch of its own."""


def load_pretrained(folder: str, pooling: PoolingName, device: str, preprocessing: Preprocessing = 2) -> TorchNetwork:
    """Load an image model.

    Args:
        folder: the model's; as in `services.encoding.encoder_fingerprint.model_folder`.
        pooling: how tokens become one vector. ``auto``: a model that sentence-transformers saved, as it was saved;
            else the projected embedding of a model that joins images and texts (CLIP, SigLIP), the class token
            (DINOv2, DINOv3, ViT), the model's own pooler, or the mean of all tokens: the first that there is.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        preprocessing: as `PreprocessingCrop.version`.

    Raises:
        EncoderUnusable: the model takes no pictures.
        Exception: whatever the libraries raise where it cannot be loaded.
    """
    return _network(_load(folder, pooling, device), folder, device, preprocessing)


def _network(model: SentenceTransformer, name: str, device: str, preprocessing: Preprocessing) -> TorchNetwork:
    model.eval().requires_grad_(requires_grad=False).float()  # some come in the precision that they were saved in
    if sum(isinstance(each, torch.nn.Conv2d) for each in model.modules()) > MAX_TRANSFORMER_CONVOLUTIONS:
        model.to(memory_format=torch.channels_last)

    resize = take_over_resize(getattr(model[0], "processor", None), model.preprocess) if preprocessing > 1 else None

    def prepare(images: Sequence[PIL.Image.Image]) -> Features:
        features: Features = model.preprocess([resize(image) for image in images] if resize else list(images))
        return features

    def build(precision: Precision) -> Forward:
        dtype: torch.dtype = getattr(torch, precision)
        built = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)

        def forward(features: Features) -> torch.Tensor:
            given = {name: _in(dtype, value) for name, value in features.items()}
            return built(given)["sentence_embedding"][:, : model.truncate_dim]  # type: ignore[no-any-return]

        return forward

    return TorchNetwork(name, device, resize.crop if resize else _view(model, preprocessing), prepare, build)


def _in(dtype: torch.dtype, value: Any) -> Any:
    """Numbers with a fraction in a precision, all else as it is."""
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _load(folder: str, pooling: PoolingName, device: str) -> SentenceTransformer:
    if pooling == "auto" and is_sentence_transformer_model(folder):
        model = SentenceTransformer(folder, device=device, processor_kwargs=PIL_PROCESSOR)
    else:
        model = SentenceTransformer(modules=_modules(folder, pooling), device=device)
    if not model.supports("image"):
        raise EncoderUnusable(f"the model in {folder} takes no pictures; name an image model")
    return model


def _modules(folder: str, pooling: PoolingName) -> list[torch.nn.Module]:
    transformer = Transformer(folder, processor_kwargs=PIL_PROCESSOR)
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


def _view(model: SentenceTransformer, preprocessing: Preprocessing) -> PreprocessingCrop:
    """The short side of the pictures that the model's image processor begins with, which cuts them itself."""
    processor = getattr(model[0], "processor", None)
    resizes = getattr(processor, "image_processor", processor)
    size = getattr(resizes, "size", None) if getattr(resizes, "do_resize", False) else None
    named = dict(size or {})
    side = named.get("shortest_edge") or max(named.get("height") or 0, named.get("width") or 0)
    side = math.ceil(side / (getattr(resizes, "crop_pct", None) or 1))  # so much more, of which it cuts the middle
    return PreprocessingCrop(side if preprocessing == 1 else side or DEFAULT_SIDE, version=preprocessing)
