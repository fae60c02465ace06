"""Intervention preview: which stored decisions would have another label if images were muted, relabelled or removed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from visual_memory.schemas.classify_options import MAX_VOTES, ClassifyOptions
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import InvalidRequest, TooLarge
from visual_memory.schemas.explanation import DecisionPreview, DecisionPreviewRequest, LabelChange
from visual_memory.schemas.filter import MAX_VALUES
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.classification.search_voters import WhatIf
from visual_memory.services.decisions.explanations.classify_stored_query import ClassifyAgain, of_vote_alone
from visual_memory.services.decisions.explanations.explanation_budget import AT_ONCE
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.vector_engines.engine_contract import Vectors


@dataclass(frozen=True)
class _StoredQuery:
    """The query of a stored decision: the options of the vote alone, and a vector float32 [dimension]."""

    id: str
    asked_at: datetime
    encoder: str
    options: ClassifyOptions
    vector: Vectors


@dataclass(frozen=True)
class PreviewIntervention:
    """The use case."""

    again: ClassifyAgain
    decisions: StoredDecisions

    def __call__(self, tenant: str, request: DecisionPreviewRequest) -> DecisionPreview:
        """Vote again on the latest stored decisions, with and without the intervention.

        Both labels are of today's memory, so that only the intervention tells them apart; they are those of the vote,
        before abstaining or a re-rank. A filter on labels still refers to the labels that images have.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            InvalidRequest: the filter covers too many images.
            TooLarge: the decisions are too large to run again at once.
        """
        if self.decisions.bytes_of_latest(tenant, request.last) > AT_ONCE.bytes:
            raise TooLarge(
                f"the latest {request.last:,} decisions are over {AT_ONCE.bytes:,} bytes, more than is read at once:"
                " ask with a smaller `last`"
            )
        ids = self._covered(tenant, request)
        what_if = WhatIf(labels=dict.fromkeys(ids, request.labels)) if request.labels else WhatIf(without=ids)
        looked_at, touched, changed = 0, 0, list[LabelChange]()
        for queries in self._batches(self.decisions.latest(tenant, request.last)):
            classify, options = self.again.by_encoder(queries[0].encoder), queries[0].options
            vectors = np.stack([each.vector for each in queries])
            before = classify.decide(tenant, vectors, options).decisions
            rows = [row for row, each in enumerate(before) if not _voters(each).isdisjoint(ids)]
            after = classify.decide(tenant, vectors[rows], options, what_if).decisions
            looked_at, touched = looked_at + len(queries), touched + len(rows)
            changed += [
                LabelChange(id=queries[row].id, asked_at=queries[row].asked_at, before=old.label, after=new.label)
                for row, old, new in zip(rows, (before[row] for row in rows), after, strict=True)
                if old.label != new.label
            ]
        changed.sort(key=lambda change: change.id, reverse=True)
        return DecisionPreview(images=len(ids), decisions=looked_at, touched=touched, changed=changed)

    def _batches(self, stored: Iterable[StoredDecision]) -> Iterator[list[_StoredQuery]]:
        """The queries by known encoders, in batches that one search serves; without the decisions themselves."""
        groups: dict[tuple[str, str], list[_StoredQuery]] = {}
        for each in stored:
            encoder, options = each.decision.encoder, of_vote_alone(each.options)
            query = _StoredQuery(each.id, each.asked_at, encoder, options, query_vector(each))
            groups.setdefault((encoder, options.model_dump_json()), []).append(query)
        for group in groups.values():
            if self.again.knows(group[0].encoder):
                step = max(1, MAX_VOTES // group[0].options.k)
                yield from (group[start : start + step] for start in range(0, len(group), step))

    def _covered(self, tenant: str, request: DecisionPreviewRequest) -> list[str]:
        """The ids of the images that the intervention covers."""
        memory = self.again.memory
        if request.filter is None:
            return sorted(memory.images.get(tenant, request.image_ids))
        images, following = memory.images.page(tenant, request.filter.clauses(memory.metadata), MAX_VALUES)
        if following is not None:
            raise InvalidRequest(f"filter: it covers more than the {MAX_VALUES} images that a preview takes; narrow it")
        return sorted(image.image_id for image in images)


def _voters(decision: Decision) -> set[str]:
    return {neighbour.image_id for neighbour in decision.neighbours}
