"""What an evaluation works on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.decision import Effort

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """Images with their labels and vectors.

    Attributes:
        ids: n image ids, each once.
        labels: of each image, one or more, each once.
        vectors: float32 [n, d], rows of length 1.
    """

    ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    vectors: Vectors


def no_thumbnail(_image_id: str, _query: bool) -> None:
    """What there is to see where there are no pictures: nothing."""


@dataclass(frozen=True)
class Material:
    """A memory, and what to ask it.

    Attributes:
        encoder: the name of the encoder that made the vectors.
        memory: the images that vote.
        queries: the images to ask about; None: the memory itself, leaving one out.
        approximate: ids of the k images that the memory's own search finds for each vector with an effort, the nearest
            first; an image may be found for itself. None: there is no such search.
        thumbnail: a JPEG of the image of an id, if there is one; True: the id is a query's.
    """

    encoder: str
    memory: Labelled
    queries: Labelled | None = None
    approximate: Callable[[Vectors, int, Effort], list[list[str]]] | None = None
    thumbnail: Callable[[str, bool], bytes | None] = no_thumbnail
