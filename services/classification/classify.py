"""Classify pictures and vectors by the vote of their nearest neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from visual_memory.schemas.classify_options import MAX_VOTES, ClassifyOptions, Prune
from visual_memory.schemas.decision import Decision, Decisions
from visual_memory.schemas.errors import InvalidVector, TooLarge
from visual_memory.schemas.image import State
from visual_memory.schemas.judgement import Judgement
from visual_memory.schemas.usage import Measure
from visual_memory.services.access.tenant_usage import CountUsage, count_nothing
from visual_memory.services.classification.search_voters import AS_IT_IS, SearchVoters, WhatIf
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.nearest_neighbours import Hits
from visual_memory.services.memory.points.point_filters import in_state
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.calibration_scores import Calibration, calibration_of
from visual_memory.services.voting.conformal_prediction_sets import set_share
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import into_groups
from visual_memory.services.voting.novelty import novelty

REMEMBERED = in_state(State.REMEMBERED)


@dataclass(frozen=True)
class Classify:
    """The use case: call `check`, then `embed` or `unit`, then `decide`.

    Attributes:
        slice_size: the most pictures that are held decoded at once.
        prune: how to prune where the options do not say.
        judgement: the current judgement of a tenant's memory, or None.
        count_usage: counts what is classified for the tenant.
    """

    memory: Memory
    encoder: SharedEncoder
    decoder: Decoder
    slice_size: int
    prune: Prune
    judgement: Callable[[str], Judgement | None]
    count_usage: CountUsage = count_nothing

    def check(self, options: ClassifyOptions, queries: int) -> None:
        """Refuse invalid or too large requests before a picture is decoded.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            TooLarge: the number of queries times k exceeds `MAX_VOTES`.
        """
        options.filter.clauses(self.memory.metadata)
        if queries * options.k > MAX_VOTES:
            raise TooLarge(
                f"{queries} pictures or vectors with k = {options.k} are {queries * options.k:,} votes, more than the"
                f" {MAX_VOTES:,} of one request: send fewer at once, or use a smaller k"
            )

    def embed(self, tenant: str, pictures: Sequence[bytes]) -> Vectors:
        """The vectors of a tenant's pictures, given as the bytes of their files.

        Returns:
            float32 [len(pictures), dimension], rows of length 1.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded.
        """
        vectors = [np.empty((0, self.encoder.dimension), np.float32)]
        for start in range(0, len(pictures), self.slice_size):
            with prometheus_metrics.stage("decode"):
                decoded = self.decoder.decode_some(
                    tenant, pictures, range(len(pictures))[start : start + self.slice_size]
                )
            vectors.append(self.encoder.encode(decoded, tenant))
        return np.concatenate(vectors)

    def unit(self, vectors: Sequence[Sequence[float]]) -> Vectors:
        """Vectors of the encoder's dimension, normalised to length 1.

        Returns:
            float32 [len(vectors), dimension].

        Raises:
            InvalidVector: a vector has the wrong length, is not finite, or is zero.
        """
        for position, vector in enumerate(vectors):
            if len(vector) != self.memory.dimension:
                raise InvalidVector(
                    f"vector {position} has {len(vector)} numbers; {self.encoder.name} makes {self.memory.dimension}"
                )
        return to_units(np.array(vectors, np.float64).reshape(len(vectors), self.memory.dimension))

    def decide(self, tenant: str, vectors: Vectors, options: ClassifyOptions, what_if: WhatIf = AS_IT_IS) -> Decisions:
        """Let the neighbours of each vector vote.

        Args:
            tenant: whose memory.
            vectors: float32 [n, dimension], rows of length 1.
            options: of the classification.
            what_if: hypothetical changes of the memory.

        Returns:
            n decisions, in the order of the vectors, and the options as they were applied.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            NotJudged: the options need a judgement of the memory.
            TooLarge: the neighbours' labels are longer than `MAX_LABEL_TEXT`.
        """
        found, options, judgement = self.search(tenant, vectors, options, options.k, what_if)
        prometheus_metrics.CLASSIFIED.inc(len(found))
        self.count_usage(tenant, {Measure.CLASSIFIED: len(found)})
        calibration = calibration_of(judgement, options) if options.calibrated else None
        decisions = [_decide(hits, options, self.encoder.name, calibration) for hits in found]
        if not all(decision.voters for decision in decisions):
            reason = self._why_no_voters(tenant, options)
            decisions = [each if each.voters else each.model_copy(update={"reason": reason}) for each in decisions]
        return Decisions(options=options, decisions=decisions)

    @property
    def search(self) -> SearchVoters:
        """Finds the neighbours that may vote."""
        return SearchVoters(self.memory, self.prune, self.judgement)

    def _why_no_voters(self, tenant: str, options: ClassifyOptions) -> str:
        if not self.memory.images.count_by_state(tenant, []).get(State.REMEMBERED):
            return "the memory is empty: no image is remembered yet"
        if not self.memory.images.count_with_vectors(tenant, [REMEMBERED]):
            return f"no remembered image has a vector of {self.encoder.name}: send those that came as vectors again"
        if options.as_of is not None:
            return f"no remembered image that meets the filter had been accepted by {options.as_of.isoformat()}"
        return "no remembered image meets the filter"


def _decide(hits: Hits, options: ClassifyOptions, encoder: str, calibration: Calibration | None) -> Decision:
    """The decision on the hits, with novelty and prediction set where the options ask for them."""
    if calibration is None or not hits:
        return decide(hits, options, encoder, truncated=hits.truncated)
    nearest = [group[0].similarity for group in into_groups(hits)]
    measured = None if options.unknown_above is None else novelty(np.array(nearest), calibration.distances)
    least = None if options.coverage is None else set_share(calibration.nonconformity, options.coverage)
    return decide(hits, options, encoder, measured, least, truncated=hits.truncated)
