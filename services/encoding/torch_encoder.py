"""A network as an `Encoder`: pictures in, batches through the network in one precision, unit rows out."""

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
    """What an encoder is made of.

    Attributes:
        name: as in `Encoder`.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        view: as in `Encoder`.
        prepare: views of pictures of mode RGB to what the network reads, tensors by name [n, ...], on the CPU.
        build: makes the network in a precision; it gives [n, dimension] or [n, dimension, 1, 1], of any length. It is
            exact in float32.
    """

    name: str
    device: str
    crop: PreprocessingCrop
    prepare: Callable[[Sequence[PIL.Image.Image]], Features]
    build: Callable[[Precision], Forward]


class TorchEncoder:
    """Embeds pictures with a network, batch after batch.

    On a GPU the next batch is prepared while the one before is computed: nothing waits for it before the last.

    Args:
        network: what to embed with.
        forward: the network in the precision that was chosen.
        batch_size: as in `Encoder`.

    Attributes:
        name: as in `Encoder`.
        view: as in `Encoder`.
        dimension: as in `Encoder`; found by embedding a picture.
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
        return embed_batches(
            self._forward, (to_device(features, self._network.device) for features in self._prepared(images))
        )

    def _prepared(self, images: Sequence[PIL.Image.Image]) -> Iterator[Features]:
        """Batches, and each picture by itself where those of a batch have not one size, for nothing is cut of them."""
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            try:
                features = [self._network.prepare(batch)]
            except ValueError:
                features = [self._network.prepare([image]) for image in batch]
            yield from features


@torch.inference_mode()
def embed_batches(forward: Forward, batches: Iterable[Features]) -> NDArray[np.float32]:
    """The unit rows of batches that lie on the network's device; a zero row stays, for `check_vectors` to name."""
    rows = torch.cat([forward(batch).flatten(1) for batch in batches])
    unit: NDArray[np.float32] = torch.nn.functional.normalize(rows.float(), dim=1).cpu().numpy()
    return unit


def to_device(features: Features, device: str) -> Features:
    """The features on a device; to a GPU from pinned memory, which waits for nothing."""
    if device == "cpu":
        return features
    return {
        name: value.pin_memory().to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in features.items()
    }
