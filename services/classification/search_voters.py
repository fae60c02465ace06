"""Search for the neighbours that may vote: filter, pruning by wrong votes, and hypothetical changes of the memory."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from visual_memory.schemas.classify_options import MAX_LABEL_TEXT, ClassifyOptions, Prune
from visual_memory.schemas.errors import TooLarge
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.judgement import Judgement
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.nearest_neighbours import Hits
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.image_reliability import reliability

AT_ONCE = 16_384
"""Neighbours of one search, so that `MAX_LABEL_TEXT` is checked before too many labels are in memory."""


@dataclass(frozen=True)
class WhatIf:
    """Hypothetical changes of the memory.

    Attributes:
        without: ids of images that do not vote; at most 1,000.
        labels: new labels by image id; filters still refer to the stored labels.
    """

    without: Collection[str] = ()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


AS_IT_IS = WhatIf()


@dataclass(frozen=True)
class SearchVoters:
    """The search.

    Attributes:
        prune: how to prune where the options do not say.
        judgement: the current judgement of a tenant's memory, or None.
    """

    memory: Memory
    prune: Prune
    judgement: Callable[[str], Judgement | None]

    def __call__(
        self, tenant: str, vectors: Vectors, options: ClassifyOptions, k: int, what_if: WhatIf = AS_IT_IS
    ) -> tuple[list[Hits], ClassifyOptions, Judgement | None]:
        """Find the k nearest images of each vector that may vote by the options.

        Args:
            tenant: whose memory.
            vectors: float32 [n, dimension], rows of length 1.
            options: of the classification.
            k: the number of neighbours, instead of that of the options.
            what_if: hypothetical changes of the memory.

        Returns:
            n lists of neighbours; the options as they were applied, with `prune` set, to ``none`` where there is no
            current judgement; the judgement, where the options need one.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            TooLarge: the neighbours' labels are longer than `MAX_LABEL_TEXT`.
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
        if not labels or options.as_of is not None:  # new labels do not change those of the past
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
        """The neighbours after pruning: images with wrong votes are excluded, or have a lower reliability."""
        votes = {} if judgement is None else judgement.votes

        def wrong(image_id: str) -> int:
            return votes.get(image_id, (0, 0))[0]

        def is_pruned(image_id: str) -> bool:
            return wrong(image_id) >= options.prune_above

        leave_out = is_pruned if options.prune is Prune.HARD else None
        found: list[Hits] = []
        text = 0
        for start in range(0, len(vectors), step := max(1, AT_ONCE // k)):
            batch = self.memory.search.nearest(
                tenant,
                vectors[start : start + step],
                k,
                clauses,
                options.effort,
                options.as_of,
                options.group_by,
                leave_out,
            )
            found += batch
            text += sum(len(label) for hits in batch for hit in hits for label in hit.labels)
            if text > MAX_LABEL_TEXT:
                raise TooLarge(
                    f"the labels of the neighbours have more than {MAX_LABEL_TEXT:,} characters, the most for one"
                    " request: send fewer pictures or vectors at once, or use a smaller k"
                )
        if options.prune is not Prune.SOFT:
            return found
        factors = (reliability(np.array([wrong(hit.image_id) for hit in hits], np.int64)).tolist() for hits in found)
        return [
            Hits((hit._replace(reliability=one) for hit, one in zip(hits, each, strict=True)), hits.truncated)
            for hits, each in zip(found, factors, strict=True)
        ]
