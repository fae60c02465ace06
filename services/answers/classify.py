"""Classify: from a picture or vector to the vote of its nearest neighbours."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.decision import ClassifyOptions, Decision, Prune
from schemas.errors import InvalidVector
from schemas.filter import Clause, FieldType
from schemas.image import State
from schemas.judgement import Judgement
from services.answers.calibrations import Calibrations
from services.answers.voters import Voters
from services.decision.calibration import Calibration
from services.decision.conformal import set_share
from services.decision.novelty import novelty
from services.decision.votes import decide
from services.memory.engine import Vectors
from services.memory.memory import Hit, Memory
from services.memory.vectors import to_units
from services.perception.decoder import Decoder
from services.perception.encoder import Encoder
from services.runtime import metrics


@dataclass(frozen=True)
class WhatIf:
    """A memory that differs from the one there is.

    Attributes:
        without: ids of images that do not vote; at most 1,000.
        labels: by image id, instead of those that images have; filters still speak of what they have.
    """

    without: Collection[str] = ()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


AS_IT_IS = WhatIf()


@dataclass(frozen=True)
class Classify:
    """The use case, with the parts that it needs: `check`, then `embed` or `unit`, then `decide`.

    Attributes:
        slice_size: how many pictures are held decoded at most, however many a request brings.
        voters: finds who votes.
        judgement: the judgement of a tenant's memory that counts now, or None.
    """

    memory: Memory
    encoder: Encoder
    decoder: Decoder
    slice_size: int
    voters: Voters
    judgement: Callable[[str], Judgement | None]
    calibrations: Calibrations = field(default_factory=Calibrations)

    def check(self, options: ClassifyOptions) -> None:
        """Refuse what `decide` would refuse, before a picture is decoded for it.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
        """
        options.filter.clauses(self.memory.metadata)

    def embed(self, pictures: Sequence[bytes]) -> Vectors:
        """The vectors of pictures, given as the bytes of their files.

        Returns:
            float32 [len(pictures), dimension], rows of length 1.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded.
        """
        vectors = np.empty((0, self.encoder.dimension), np.float32)
        while len(vectors) < len(pictures):
            vectors = np.concatenate([vectors, self._encode(pictures, len(vectors))])
        return vectors

    def unit(self, vectors: Sequence[Sequence[float]]) -> Vectors:
        """Vectors of the encoder's dimension, each brought to length 1.

        Returns:
            float32 [len(vectors), dimension].

        Raises:
            InvalidVector: one has the wrong length, is not finite, or is zero.
        """
        for place, vector in enumerate(vectors):
            if len(vector) != self.memory.dimension:
                raise InvalidVector(
                    f"vector {place} has {len(vector)} numbers; {self.encoder.name} makes {self.memory.dimension}"
                )
        return to_units(np.array(vectors, np.float64).reshape(len(vectors), self.memory.dimension))

    def decide(
        self, tenant: str, vectors: Vectors, options: ClassifyOptions, what_if: WhatIf = AS_IT_IS
    ) -> list[Decision]:
        """Let the neighbours of each vector vote.

        Args:
            tenant: whose memory.
            vectors: float32 [n, dimension], rows of length 1.
            options: what is asked.
            what_if: what would be otherwise in memory.

        Returns:
            n decisions, in the order of the vectors.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            NotJudged: the options need a judgement of the memory.
        """
        found, options, judgement = self.search(tenant, vectors, options, options.k, what_if)
        metrics.CLASSIFIED.labels(tenant).inc(len(found))
        calibration = self.calibrations(judgement, options) if options.calibrated else None
        decisions = [_decide(hits, options, self.encoder.name, calibration) for hits in found]
        if all(decision.voters for decision in decisions):
            return decisions
        reason = self._why_nobody(tenant, options)
        return [each if each.voters else each.model_copy(update={"reason": reason}) for each in decisions]

    def search(
        self, tenant: str, vectors: Vectors, options: ClassifyOptions, k: int, what_if: WhatIf = AS_IT_IS
    ) -> tuple[list[list[Hit]], ClassifyOptions, Judgement | None]:
        """The k images nearest to each vector, of those that may vote by the options; as `decide` otherwise.

        Returns:
            n lists; the options as they were applied; the judgement that counts, where the options need one.
        """
        clauses = options.filter.clauses(self.memory.metadata)
        if what_if.without:
            clauses.append(Clause("image_id", FieldType.KEYWORD, tuple(what_if.without), negated=True))
        with metrics.stage("search"):
            needed = options.calibrated or self.voters.pruning(options) is not Prune.NONE
            judgement = self.judgement(tenant) if needed else None
            found, applied = self.voters(tenant, vectors, clauses, options, k, judgement)
        labels = what_if.labels
        if not labels or options.as_of is not None:  # other labels from now on leave those of the past as they are
            return found, applied, judgement
        return (
            [[hit._replace(labels=tuple(labels.get(hit.image_id, hit.labels))) for hit in hits] for hits in found],
            applied,
            judgement,
        )

    def _encode(self, pictures: Sequence[bytes], start: int) -> Vectors:
        """The vectors of a slice of them."""
        with self.decoder.room.hold() as hold:
            with metrics.stage("decode"):
                decoded = self.decoder.some(pictures, start, self.slice_size, hold)
            return self.encoder.encode(decoded)

    def _why_nobody(self, tenant: str, options: ClassifyOptions) -> str:
        if not self.memory.counts_by_state(tenant, []).get(State.REMEMBERED):
            return "the memory is empty: no image is remembered yet"
        if options.as_of is not None:
            return f"no remembered image that meets the filter had been accepted by {options.as_of.isoformat()}"
        return "no remembered image meets the filter"


def _decide(hits: Sequence[Hit], options: ClassifyOptions, encoder: str, calibration: Calibration | None) -> Decision:
    """The vote of the hits, by the measure of the memory's own images where the options ask for it."""
    if calibration is None or not hits:
        return decide(hits, options, encoder)
    found = novelty(np.array([hit.similarity for hit in hits]), calibration.distances)
    least = None if options.coverage is None else set_share(calibration.nonconformity, options.coverage)
    return decide(hits, options, encoder, found if options.unknown_above is not None else None, least)
