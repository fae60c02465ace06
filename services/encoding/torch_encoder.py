"""Run a PyTorch network as an `Encoder`: batches of prepared pictures to unit rows, in one precision."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.encoding.encoder_contract import check_vectors

Precision = Literal["float32", "bfloat16", "float16"]
Features = Mapping[str, Any]
Forward = Callable[[Features], torch.Tensor]


@dataclass(frozen=True)
class TorchNetwork:
    """A loaded model with its preprocessing.

    Attributes:
        name: as in `Encoder`.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        crop: as in `Encoder`.
        prepare: converts cropped pictures of mode RGB to the network's input, tensors [n, ...] by name, on the CPU.
        build: returns the network in a precision; its output is [n, dimension] or [n, dimension, 1, 1], of any length,
            and exact in float32.
    """

    name: str
    device: str
    crop: PreprocessingCrop
    prepare: Callable[[Sequence[PIL.Image.Image]], Features]
    build: Callable[[Precision], Forward]


class TorchEncoder:
    """Embeds pictures with a network, batch by batch.

    On a GPU the next batch is prepared while the previous one is computed; only the last one is waited for.

    Args:
        network: the model.
        forward: the network in the chosen precision.
        batch_size: as in `Encoder`.

    Attributes:
        name: as in `Encoder`.
        crop: as in `Encoder`.
        dimension: as in `Encoder`; determined by embedding a picture.
    """

    def __init__(self, network: TorchNetwork, forward: Forward, batch_size: int) -> None:
        self.name = network.name
        self.crop = network.crop
        self.batch_size = batch_size
        self._network = network
        self._forward = forward
        self.dimension = self._embed([network.crop.apply(PIL.Image.radial_gradient("L").convert("RGB"))]).shape[1]

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        """As in `Encoder`."""
        vectors = self._embed(images) if images else np.empty((0, self.dimension), np.float32)
        return check_vectors(vectors, self.name, len(images), self.dimension)

    def _embed(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        batches = (to_device(features, self._network.device) for features in self._prepare(images))
        return embed_batches(self._forward, batches)

    def _prepare(self, images: Sequence[PIL.Image.Image]) -> Iterator[Features]:
        """Prepare batches; pictures of a batch with different sizes, because nothing is cropped, one by one."""
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            try:
                features = [self._network.prepare(batch)]
            except ValueError:
                features = [self._network.prepare([image]) for image in batch]
            yield from features


@torch.inference_mode()
def embed_batches(forward: Forward, batches: Iterable[Features]) -> NDArray[np.float32]:
    """Embed batches on the network's device as unit rows; a zero row remains zero, for `check_vectors` to report."""
    rows = torch.cat([forward(batch).flatten(1) for batch in batches])
    unit: NDArray[np.float32] = torch.nn.functional.normalize(rows.float(), dim=1).cpu().numpy()
    return unit


def to_device(features: Features, device: str) -> Features:
    """Copy features to a device; to a GPU asynchronously from pinned memory."""
    if device == "cpu":
        return features
    return {
        name: value.pin_memory().to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in features.items()
    }
