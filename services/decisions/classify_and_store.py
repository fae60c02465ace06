"""Classify queries, and store the decisions if the options say so."""

from collections.abc import Callable, Sequence

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision, Decisions
from visual_memory.services.classification.classify import Classify
from visual_memory.services.decisions.stored_decisions import StoredDecisions

Rerank = Callable[[Sequence[Decision]], Sequence[Decision]]


def classify_and_store(
    classify: Classify,
    stored: StoredDecisions,
    tenant: str,
    requested_by: str,
    options: ClassifyOptions,
    *,
    pictures: Sequence[bytes] = (),
    vectors: Sequence[Sequence[float]] = (),
    rerank: Rerank | None = None,
) -> Decisions:
    """Classify pictures, or vectors if there are no pictures.

    Args:
        classify: searches and votes.
        stored: stores decisions with all their neighbours, if `options.store`.
        tenant: whose memory.
        requested_by: the caller's name.
        options: of the classification; the answer has `options.show` neighbours of each decision.
        pictures: the bytes of the files.
        vectors: of the encoder's dimension, if there are no pictures.
        rerank: revises the decisions before they are stored; sees all neighbours.

    Raises:
        VisualMemoryError: as `Classify` and `StoredDecisions.store`.
    """
    classify.check(options, len(pictures or vectors))
    started = stored.begin(tenant) if options.store else None
    units = classify.embed(tenant, pictures) if pictures or not vectors else classify.unit(vectors)
    complete = options.model_copy(update={"show": None}) if options.store or rerank else options
    result = classify.decide(tenant, units, complete)
    decisions: Sequence[Decision] = rerank(result.decisions) if rerank else result.decisions
    if started is not None:
        decisions = stored.store(tenant, requested_by, started, pictures, units, result.options, decisions)
    return Decisions(
        options=result.options.model_copy(update={"show": options.show}),
        decisions=[each.model_copy(update={"neighbours": each.neighbours[: options.show]}) for each in decisions],
    )
