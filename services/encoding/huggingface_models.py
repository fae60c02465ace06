"""Load an image model of sentence-transformers or transformers, from a hub name or a folder."""

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
"""Use the image processors without torchvision, so that vectors do not depend on whether it is installed."""


class DINOv3ViTImageProcessor(ViTImageProcessorPil):  # type: ignore[misc]  # untyped where it is not analysed
    """DINOv3's processor without torchvision, which transformers lacks: the same steps, with rounded pixels between."""

    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD


AutoImageProcessor.register(  # looked up by its name in the model's files
    DINOv3ViTConfig,
    image_processor_classes={"pil": DINOv3ViTImageProcessor, "torchvision": DINOv3ViTImageProcessor},
    exist_ok=True,
)

disable_progress_bar()  # of loading weights; it would fill the logs

MAX_TRANSFORMER_CONVOLUTIONS = 2
"""A model with more is a convolutional network, which gains from channels last; a transformer has one for patches."""
DEFAULT_SIDE = 512
"""Side of the pictures for a model that defines none; otherwise a picture of 50 megapixels would be embedded whole."""


def load_pretrained(folder: str, pooling: PoolingName, device: str, preprocessing: Preprocessing = 2) -> TorchNetwork:
    """Load an image model.

    Args:
        folder: of the model; as from `services.encoding.encoder_fingerprint.model_folder`.
        pooling: how tokens become one vector. ``auto``: a model saved by sentence-transformers, as it was saved;
            otherwise the first of: the projected embedding of a model for images and texts (CLIP, SigLIP), the class
            token (DINOv2, DINOv3, ViT), the model's own pooler, the mean of all tokens.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        preprocessing: as `PreprocessingCrop.version`.

    Raises:
        EncoderUnusable: the model does not accept pictures.
        Exception: whatever the libraries raise if it cannot be loaded.
    """
    return _network(_load(folder, pooling, device), folder, device, preprocessing)


def _network(model: SentenceTransformer, name: str, device: str, preprocessing: Preprocessing) -> TorchNetwork:
    model.eval().requires_grad_(requires_grad=False).float()  # some are loaded in the precision of their file
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
            converted = {name: _to_dtype(dtype, value) for name, value in features.items()}
            return built(converted)["sentence_embedding"][:, : model.truncate_dim]  # type: ignore[no-any-return]

        return forward

    return TorchNetwork(name, device, resize.crop if resize else _crop(model, preprocessing), prepare, build)


def _to_dtype(dtype: torch.dtype, value: Any) -> Any:
    """Convert a tensor of floats to a precision; return everything else unchanged."""
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _load(folder: str, pooling: PoolingName, device: str) -> SentenceTransformer:
    if pooling == "auto" and is_sentence_transformer_model(folder):
        model = SentenceTransformer(folder, device=device, processor_kwargs=PIL_PROCESSOR)
    else:
        model = SentenceTransformer(modules=_modules(folder, pooling), device=device)
    if not model.supports("image"):
        raise EncoderUnusable(f"the model in {folder} accepts no pictures; name an image model")
    return model


def _modules(folder: str, pooling: PoolingName) -> list[torch.nn.Module]:
    transformer = Transformer(folder, processor_kwargs=PIL_PROCESSOR)
    if "image" not in transformer.modality_config:
        return [transformer]
    chosen = _default_pooling(transformer) if pooling == "auto" else pooling
    image = transformer.modality_config["image"]
    if chosen == "pooler":
        image["method_output_name"], transformer.module_output_name = "pooler_output", "sentence_embedding"
        return [transformer]
    image["method_output_name"], transformer.module_output_name = "last_hidden_state", "token_embeddings"
    return [transformer, Pooling(transformer.get_embedding_dimension(), chosen)]


def _default_pooling(transformer: Transformer) -> Literal["cls", "mean", "pooler"]:
    """The pooling that the model's family is trained for."""
    if transformer.module_output_name == "sentence_embedding":
        return "pooler"
    if any(name.endswith("cls_token") for name, _ in transformer.model.named_parameters()):
        return "cls"
    outputs = transformer._get_method_output_fields(transformer.model.forward) or []  # noqa: SLF001
    return "pooler" if "pooler_output" in outputs else "mean"


def _crop(model: SentenceTransformer, preprocessing: Preprocessing) -> PreprocessingCrop:
    """The resize of the model's image processor, which does the centre crop itself."""
    processor = getattr(model[0], "processor", None)
    images = getattr(processor, "image_processor", processor)
    size = getattr(images, "size", None) if getattr(images, "do_resize", False) else None
    sizes = dict(size or {})
    side = sizes.get("shortest_edge") or max(sizes.get("height") or 0, sizes.get("width") or 0)
    side = math.ceil(side / (getattr(images, "crop_pct", None) or 1))  # it crops this part of the resized picture
    return PreprocessingCrop(side if preprocessing == 1 else side or DEFAULT_SIDE, version=preprocessing)
