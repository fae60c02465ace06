"""Classify: from a picture or vector to the vote of its nearest neighbours."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from visual_memory.schemas.classify_options import MAX_LABEL_TEXT, MAX_VOTES, ClassifyOptions, Prune
from visual_memory.schemas.decision import Decision, Decisions
from visual_memory.schemas.errors import InvalidVector, TooLarge
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.schemas.judgement import Judgement
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.nearest_neighbours import Hits
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.calibration_scores import Calibration, calibration_of
from visual_memory.services.voting.conformal_prediction_sets import set_share
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import into_groups
from visual_memory.services.voting.image_reliability import reliability
from visual_memory.services.voting.novelty import novelty


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
REMEMBERED = Clause("state", FieldType.KEYWORD, (State.REMEMBERED.value,))
AT_ONCE = 16_384
"""Neighbours that are searched for at once, so that their labels are counted before there are too many."""


@dataclass(frozen=True)
class Classify:
    """The use case, with the parts that it needs: `check`, then `embed` or `unit`, then `decide`.

    Attributes:
        slice_size: how many pictures are held decoded at most, however many a request brings.
        prune: how to prune where the options do not say.
        judgement: the judgement of a tenant's memory that counts now, or None.
    """

    memory: Memory
    encoder: SharedEncoder
    decoder: Decoder
    slice_size: int
    prune: Prune
    judgement: Callable[[str], Judgement | None]

    def check(self, options: ClassifyOptions, queries: int) -> None:
        """Refuse what `decide` would refuse, before a picture is decoded for it, and what its answer is too large for.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            TooLarge: so many pictures or vectors with so many neighbours are more than `MAX_VOTES`.
        """
        options.filter.clauses(self.memory.metadata)
        if queries * options.k > MAX_VOTES:
            raise TooLarge(
                f"{queries} pictures or vectors with k = {options.k} are {queries * options.k:,} votes in one request;"
                f" at most {MAX_VOTES:,} are counted: send fewer at once, or ask for a smaller k"
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

    def decide(self, tenant: str, vectors: Vectors, options: ClassifyOptions, what_if: WhatIf = AS_IT_IS) -> Decisions:
        """Let the neighbours of each vector vote.

        Args:
            tenant: whose memory.
            vectors: float32 [n, dimension], rows of length 1.
            options: what is asked.
            what_if: what would be otherwise in memory.

        Returns:
            n decisions, in the order of the vectors, and the options as they were applied.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            NotJudged: the options need a judgement of the memory.
            TooLarge: the labels of those who vote are more than `MAX_LABEL_TEXT`.
        """
        found, options, judgement = self.search(tenant, vectors, options, options.k, what_if)
        prometheus_metrics.CLASSIFIED.labels(tenant).inc(len(found))
        calibration = calibration_of(judgement, options) if options.calibrated else None
        decisions = [_decide(hits, options, self.encoder.name, calibration) for hits in found]
        if not all(decision.voters for decision in decisions):
            reason = self._why_nobody(tenant, options)
            decisions = [each if each.voters else each.model_copy(update={"reason": reason}) for each in decisions]
        return Decisions(options=options, decisions=decisions)

    def search(
        self, tenant: str, vectors: Vectors, options: ClassifyOptions, k: int, what_if: WhatIf = AS_IT_IS
    ) -> tuple[list[Hits], ClassifyOptions, Judgement | None]:
        """The k images nearest to each vector, of those that may vote by the options; as `decide` otherwise.

        Returns:
            n of them; the options as they were applied, which always say how it was pruned: ``none`` where no
            judgement counts; the judgement that counts, where the options need one.
        """
        clauses = options.filter.clauses(self.memory.metadata)
        if what_if.without:
            clauses.append(Clause("image_id", FieldType.KEYWORD, tuple(what_if.without), negated=True))
        prune = options.prune or self.prune
        with prometheus_metrics.stage("search"):
            judgement = self.judgement(tenant) if options.calibrated or prune is not Prune.NONE else None
            applied = options.model_copy(update={"prune": Prune.NONE if judgement is None else prune})
            found = self._nearest(tenant, vectors, clauses, applied, k, judgement)
        labels = what_if.labels
        if not labels or options.as_of is not None:  # other labels from now on leave those of the past as they are
            return found, applied, judgement
        relabelled = [
            Hits((hit._replace(labels=tuple(labels.get(hit.image_id, hit.labels))) for hit in hits), hits.truncated)
            for hits in found
        ]
        return relabelled, applied, judgement

    def _nearest(
        self,
        tenant: str,
        vectors: Vectors,
        clauses: Sequence[Clause],
        options: ClassifyOptions,
        k: int,
        judgement: Judgement | None,
    ) -> list[Hits]:
        """The neighbours that may vote; those that gave wrong votes count less, or not at all."""
        votes = {} if judgement is None else judgement.votes

        def wrong(image_id: str) -> int:
            return votes.get(image_id, (0, 0))[0]

        def is_pruned(image_id: str) -> bool:
            return wrong(image_id) >= options.prune_above

        leave_out = is_pruned if options.prune is Prune.HARD else None
        found: list[Hits] = []
        text = 0
        for start in range(0, len(vectors), step := max(1, AT_ONCE // k)):
            some = self.memory.search.nearest(
                tenant,
                vectors[start : start + step],
                k,
                clauses,
                options.search,
                options.as_of,
                options.group_by,
                leave_out,
            )
            found += some
            text += sum(len(label) for hits in some for hit in hits for label in hit.labels)
            if text > MAX_LABEL_TEXT:
                raise TooLarge(
                    f"the labels of those who would vote hold more than {MAX_LABEL_TEXT:,} characters, the most in one"
                    " answer: send fewer at once, or ask for a smaller k"
                )
        if options.prune is not Prune.SOFT:
            return found
        given = (reliability(np.array([wrong(hit.image_id) for hit in hits], np.int64)).tolist() for hits in found)
        return [
            Hits((hit._replace(reliability=one) for hit, one in zip(hits, some, strict=True)), hits.truncated)
            for hits, some in zip(found, given, strict=True)
        ]

    def _why_nobody(self, tenant: str, options: ClassifyOptions) -> str:
        if not self.memory.images.count_by_state(tenant, []).get(State.REMEMBERED):
            return "the memory is empty: no image is remembered yet"
        if not self.memory.images.count_with_vectors(tenant, [REMEMBERED]):
            return f"no remembered image has a vector of {self.encoder.name}: those that came as vectors are sent again"
        if options.as_of is not None:
            return f"no remembered image that meets the filter had been accepted by {options.as_of.isoformat()}"
        return "no remembered image meets the filter"


def _decide(hits: Hits, options: ClassifyOptions, encoder: str, calibration: Calibration | None) -> Decision:
    """The vote of what was found, by the measure of the memory's own images where the options ask for it."""
    if calibration is None or not hits:
        return decide(hits, options, encoder, truncated=hits.truncated)
    nearest = [group[0].similarity for group in into_groups(hits)]
    measured = None if options.unknown_above is None else novelty(np.array(nearest), calibration.distances)
    least = None if options.coverage is None else set_share(calibration.nonconformity, options.coverage)
    return decide(hits, options, encoder, measured, least, truncated=hits.truncated)
