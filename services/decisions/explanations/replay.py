"""Replay: run a stored decision against today's memory, and report what is different."""

from collections.abc import Sequence
from dataclasses import dataclass

from visual_memory.schemas.decision import Decision, Neighbour
from visual_memory.schemas.explanation import Gone, Relabelled, Replay, ReplayRequest, Reweighted
from visual_memory.schemas.filter import Clause, matches
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.classification.search_voters import WhatIf
from visual_memory.services.decisions.explanations.classify_stored_query import ClassifyAgain, with_all_neighbours
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.decisions.stored_decisions import StoredDecisions

SAME_WEIGHT = 1e-9
"""Weights that differ by less, relative to the larger, are equal: the same similarity is not always the same float."""


@dataclass(frozen=True)
class ReplayDecision:
    """The use case."""

    again: ClassifyAgain
    decisions: StoredDecisions

    def __call__(self, tenant: str, decision_id: str, request: ReplayRequest) -> Replay:
        """Run a stored decision against today's memory.

        Raises:
            NotFound: there is no such decision.
            EncoderMismatch: its encoder was dropped since.
            InvalidFilter: its filter, or the one of `request`, is not valid any more.
        """
        stored = self.decisions.load(tenant, decision_id)
        memory = self.again.memory
        options = with_all_neighbours(request.options or stored.options)
        classify, query = self.again.by_encoder(stored.decision.encoder), query_vector(stored)[None]
        today = classify.decide(tenant, query, options, WhatIf(without=request.without))
        [decision] = today.decisions
        difference = compare(stored.decision, decision)
        images = memory.images.get(tenant, [each.image_id for each in difference.gone])
        clauses = options.filter.clauses(memory.metadata)
        before = stored.decision.voted_label
        return Replay(
            before=before,
            changed=before != decision.label,
            options=today.options,
            decision=decision,
            came=difference.came,
            gone=[
                Gone(neighbour=each, why=_why_gone(each, images.get(each.image_id), request.without, clauses))
                for each in difference.gone
            ],
            relabelled=difference.relabelled,
            reweighted=difference.reweighted,
        )


@dataclass(frozen=True)
class Difference:
    """What is different between two decisions on the same query."""

    came: list[Neighbour]
    gone: list[Neighbour]
    relabelled: list[Relabelled]
    reweighted: list[Reweighted]


def compare(before: Decision, after: Decision) -> Difference:
    """Compare the neighbours of two decisions that show all of theirs; each list is from the nearest."""
    earlier = {each.image_id: each for each in before.neighbours}
    later = {each.image_id: each for each in after.neighbours}
    both = [(each, later[each.image_id]) for each in before.neighbours if each.image_id in later]
    return Difference(
        came=[each for each in after.neighbours if each.image_id not in earlier],
        gone=[each for each in before.neighbours if each.image_id not in later],
        relabelled=[
            Relabelled(image_id=old.image_id, before=old.labels, after=new.labels)
            for old, new in both
            if old.labels != new.labels
        ],
        reweighted=[
            Reweighted(image_id=old.image_id, before=old.weight, after=new.weight)
            for old, new in both
            if abs(old.weight - new.weight) > SAME_WEIGHT * max(old.weight, new.weight)
        ],
    )


def _why_gone(
    neighbour: Neighbour, image: StoredImage | None, without: Sequence[str], clauses: Sequence[Clause]
) -> str:
    if neighbour.image_id in without:
        return "left out, as requested"
    if image is None:
        return "removed"
    if image.removal is not None or image.state is not State.REMEMBERED:
        return "being removed" if image.removal else str(image.state)
    if image.has_expired(now()):
        return "expired"
    if not matches(clauses, image):
        return "does not meet the filter"
    return "others are nearer"
