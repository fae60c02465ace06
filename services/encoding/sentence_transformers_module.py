"""The built-in encoder as a sentence-transformers module, for use, training and saving with that library."""

from collections.abc import Sequence
from typing import Any, Self

import PIL.Image
import torch
from efficientnet_lite_pytorch import EfficientNet
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.sentence_transformer.modules import InputModule

from visual_memory.services.encoding.efficientnet import NAME, prepare, scale_pixels
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN_CROP, BUILT_IN_DIMENSION


class EfficientNetLite0(InputModule):  # type: ignore[misc]  # untyped where the library is not analysed
    """Pictures to pooled features; the first module of a `SentenceTransformer`.

    Args:
        network: as from `load_published_network`; None: a network without weights, to load them into.
    """

    save_in_root = False

    def __init__(self, network: EfficientNet | None = None) -> None:
        super().__init__()
        self.network = network or EfficientNet.from_name(NAME).eval()

    @property
    def modalities(self) -> list[Modality]:
        """Only pictures."""
        return ["image"]

    def preprocess(self, inputs: Sequence[PIL.Image.Image], **_: Any) -> dict[str, torch.Tensor]:
        """Crop pictures of mode RGB and any size, and convert them with `prepare`."""
        return prepare([BUILT_IN_CROP.apply(picture) for picture in inputs])

    def forward(self, features: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        """Adds ``sentence_embedding``, float32 [n, 1280]."""
        features["sentence_embedding"] = self.network.extract_features(scale_pixels(features["pixels"])).mean((2, 3))
        return features

    def get_embedding_dimension(self) -> int:
        """1280."""
        return BUILT_IN_DIMENSION

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Write the weights into a folder."""
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **where: Any) -> Self:
        """Read what `save` wrote."""
        hub = {key: where[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in where}
        module = cls()
        cls.load_torch_weights(model_name_or_path, subfolder, model=module, **hub)
        return module
