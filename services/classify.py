"""Classify: from a picture or vector to the vote of its nearest neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.decision import ClassifyOptions, Decision
from schemas.errors import InvalidVector
from schemas.filter import Clause
from schemas.image import State
from services import metrics
from services.decision.votes import decide
from services.memory.memory import Memory
from services.perception.decoder import Decoder
from services.perception.encoder import Encoder


@dataclass(frozen=True)
class Classify:
    """The use case, with the parts that it needs.

    Attributes:
        slice_size: how many pictures are held decoded at most, however many a request brings.
        ask_store: raises `Unavailable` soon where the store is silent; a search, which may take long, does not.
    """

    memory: Memory
    encoder: Encoder
    decoder: Decoder
    slice_size: int
    ask_store: Callable[[], None]

    def pictures(self, tenant: str, pictures: Sequence[bytes], options: ClassifyOptions) -> list[Decision]:
        """Classify pictures, given as the bytes of their files.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded.
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
        """
        clauses = options.filter.clauses(self.memory.metadata)
        return self._decide(tenant, self.embed(pictures), clauses, options)

    def vectors(self, tenant: str, vectors: Sequence[Sequence[float]], options: ClassifyOptions) -> list[Decision]:
        """Classify vectors of the encoder's dimension; their length does not matter.

        Raises:
            InvalidVector: one has the wrong length, is not finite, or is zero.
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
        """
        clauses = options.filter.clauses(self.memory.metadata)
        return self._decide(tenant, self._unit(vectors), clauses, options)

    def embed(self, pictures: Sequence[bytes]) -> NDArray[np.float32]:
        """The vectors of n pictures, float32 [n, dimension], rows of length 1.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded.
        """
        vectors = np.empty((0, self.encoder.dimension), np.float32)
        while len(vectors) < len(pictures):
            vectors = np.concatenate([vectors, self._encode(pictures, len(vectors))])
        return vectors

    def _encode(self, pictures: Sequence[bytes], start: int) -> NDArray[np.float32]:
        """The vectors of a slice of them."""
        with self.decoder.room.hold() as hold:
            with metrics.stage("decode"):
                decoded = self.decoder.some(pictures, start, self.slice_size, hold)
            return self.encoder.encode(decoded)

    def _unit(self, vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        for place, vector in enumerate(vectors):
            if len(vector) != self.memory.dimension:
                raise InvalidVector(
                    f"vector {place} has {len(vector)} numbers; {self.encoder.name} makes {self.memory.dimension}"
                )
        exact = np.array(vectors, np.float64).reshape(len(vectors), self.memory.dimension)
        norms = np.linalg.norm(exact, axis=1, keepdims=True)
        for place, norm in enumerate(norms[:, 0]):
            if not np.isfinite(norm) or norm == 0:
                raise InvalidVector(f"vector {place} is zero or not finite, and so has no direction to compare")
        unit: NDArray[np.float32] = (exact / norms).astype(np.float32)
        return unit

    def _decide(
        self, tenant: str, vectors: NDArray[np.float32], clauses: list[Clause], options: ClassifyOptions
    ) -> list[Decision]:
        with metrics.stage("search"):
            self.ask_store()
            found = self.memory.nearest(tenant, vectors, options.k, clauses, exact=options.exact)
        metrics.CLASSIFIED.labels(tenant).inc(len(found))
        decisions = [decide(hits, options, self.encoder.name) for hits in found]
        if all(decision.voters for decision in decisions):
            return decisions
        reason = self._why_nobody(tenant)
        return [each if each.voters else each.model_copy(update={"reason": reason}) for each in decisions]

    def _why_nobody(self, tenant: str) -> str:
        if self.memory.counts_by_state(tenant, []).get(State.REMEMBERED):
            return "no remembered image meets the filter"
        return "the memory is empty: no image is remembered yet"
