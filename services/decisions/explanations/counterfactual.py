"""Counterfactual: the fewest images without which a stored decision, made again today, has another label."""

from dataclasses import dataclass

from visual_memory.schemas.classify_options import ClassifyOptions, Effort
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.explanation import Counterfactual, Pivot
from visual_memory.schemas.image import State
from visual_memory.services.classification.classify import Classify
from visual_memory.services.classification.search_voters import WhatIf
from visual_memory.services.decisions.explanations.classify_stored_query import ClassifyAgain, of_vote_alone
from visual_memory.services.decisions.explanations.explanation_budget import AS_A_JOB, Budget, OverBudget, no_progress
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.nearest_neighbours import Hits
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups, into_groups
from visual_memory.services.voting.label_hierarchy import depth
from visual_memory.services.voting.smallest_flip import smallest_flip, table_cells

SIZES = (16, 64, 256)
"""Largest sets that are searched for, one after the other: each search looks that far beyond the k nearest."""
TRUNCATED = "so many images are equally near, or share a vote, that others took the places of those left out"


@dataclass(frozen=True)
class _Search:
    """Outcome of the search for a flipping set.

    Attributes:
        hits: the neighbours that were looked at, from beyond the k-th group too.
        positions: of the set in `hits`; None where there is none.
        largest: the size of the largest set that was searched for.
    """

    hits: Hits
    positions: list[int] | None
    largest: int


@dataclass(frozen=True)
class FindCounterfactual:
    """The use case."""

    again: ClassifyAgain
    decisions: StoredDecisions

    def __call__(
        self, tenant: str, decision_id: str, budget: Budget = AS_A_JOB, progress: Progress = no_progress
    ) -> Counterfactual:
        """Compute the set from the votes, then vote without it to check.

        The search is exact, so the set is the minimum; where two are as small, it is one of them.

        Raises:
            NotFound: there is no such decision.
            EncoderMismatch: its encoder was dropped since.
            InvalidFilter: its filter is not valid any more.
            OverBudget: it takes more than the budget, which refuses that.
        """
        stored = self.decisions.load(tenant, decision_id)
        classify, query = self.again.by_encoder(stored.decision.encoder), query_vector(stored)[None]
        exact = of_vote_alone(stored.options).model_copy(update={"effort": Effort.EXACT})
        clauses = exact.filter.clauses(self.again.memory.metadata)
        if self.again.memory.images.count_by_state(tenant, clauses).get(State.REMEMBERED, 0) > budget.images:
            raise OverBudget
        options = _at_its_level(classify.decide(tenant, query, exact))
        found = self._search(classify, tenant, query, options, budget, progress)
        voters, _ = first_groups(found.hits, options.k)
        label = decide(voters, options, stored.decision.encoder).label
        counterfactual = Counterfactual(label=label, truncated=found.hits.truncated)
        if found.positions is None:
            reason = f"no {found.largest} images or fewer decide it: it keeps its label"
            return counterfactual.model_copy(update={"reason": reason})
        pivots = _pivots(found.hits, found.positions)
        what_if = WhatIf(without=[each.image_id for each in pivots])
        [without] = classify.decide(tenant, query, options, what_if).decisions
        if without.label == label:
            reason = TRUNCATED if found.hits.truncated else "the memory changed during the search: try again"
            return counterfactual.model_copy(update={"reason": reason})
        return counterfactual.model_copy(update={"becomes": without.label, "images": pivots})

    def _search(
        self,
        classify: Classify,
        tenant: str,
        query: Vectors,
        options: ClassifyOptions,
        budget: Budget,
        progress: Progress,
    ) -> _Search:
        """Search for larger and larger sets until one flips the vote, or the budget is used up."""
        positions, largest = None, 0
        for done, size in enumerate(SIZES):
            progress("counterfactual", done, len(SIZES))
            [hits], *_ = classify.search(tenant, query, options, options.k + size)
            if table_cells(hits, size) > budget.cells and (largest or budget.refuses):
                if budget.refuses:
                    raise OverBudget
                break
            positions, largest = smallest_flip(hits, options, size), size
            if positions is not None:
                break
        return _Search(hits, positions, largest)


def _pivots(hits: Hits, positions: list[int]) -> list[Pivot]:
    flipping = {hits[position].image_id for position in positions}
    return [
        Pivot(rank=rank, image_id=hit.image_id, similarity=hit.similarity, labels=list(hit.labels))
        for rank, group in enumerate(into_groups(hits))
        for hit in group
        if hit.image_id in flipping
    ]


def _at_its_level(decided: Decisions) -> ClassifyOptions:
    """The options with the level that the vote backed off to as their fixed level: the vote comes out the same."""
    [decision] = decided.decisions
    if decided.options.back_off is None or not decision.shares:
        return decided.options
    level = max(depth(each.label) for each in decision.shares)
    return decided.options.model_copy(update={"level": level, "back_off": None})
