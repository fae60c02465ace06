"""Voters: who votes in a classification, and how reliable each of them is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.decision import ClassifyOptions, Prune
from schemas.filter import Clause
from schemas.judgement import Judgement
from services.decision.pruning import reliability
from services.memory.engine import Vectors
from services.memory.memory import Hit, Memory


@dataclass(frozen=True)
class Voters:
    """The use case, with the parts that it needs.

    Attributes:
        policy: how to prune where the options do not say.
    """

    memory: Memory
    policy: Prune = Prune.NONE

    def pruning(self, options: ClassifyOptions) -> Prune:
        """How the options prune, where there is a judgement to prune by."""
        return options.prune or self.policy

    def __call__(
        self,
        tenant: str,
        vectors: Vectors,
        clauses: Sequence[Clause],
        options: ClassifyOptions,
        k: int,
        judgement: Judgement | None,
    ) -> tuple[list[list[Hit]], ClassifyOptions]:
        """The k nearest to each vector of those that may vote by the options; and the options as they were applied.

        These always say how it was pruned: ``none`` where no judgement counts.
        """
        prune = Prune.NONE if judgement is None else self.pruning(options)
        applied = options.model_copy(update={"prune": prune})

        def search(queries: Vectors, limit: int) -> list[list[Hit]]:
            return self.memory.nearest(tenant, queries, limit, clauses, options.search, options.as_of)

        if judgement is None or prune is Prune.NONE:
            return search(vectors, k), applied
        if prune is Prune.SOFT:
            return [_weighed(hits, judgement) for hits in search(vectors, k)], applied
        return _spared(vectors, k, judgement, options.prune_above, search), applied


def _weighed(hits: Sequence[Hit], judgement: Judgement) -> list[Hit]:
    """Those that gave wrong votes count less."""
    given = reliability(np.array([_wrong(judgement, hit) for hit in hits], np.int64)).tolist()
    return [hit._replace(reliability=each) for hit, each in zip(hits, given, strict=True)]


def _spared(
    vectors: Vectors, k: int, judgement: Judgement, above: int, search: Callable[[Vectors, int], list[list[Hit]]]
) -> list[list[Hit]]:
    """Without those that gave too many wrong votes: as many more are asked for as it takes."""
    found: dict[int, list[Hit]] = {}
    limit = k
    while left := [row for row in range(len(vectors)) if row not in found]:
        limit *= 2
        for row, hits in zip(left, search(vectors[left], limit), strict=True):
            kept = [hit for hit in hits if _wrong(judgement, hit) < above]
            if len(kept) >= k or len(hits) < limit:
                found[row] = kept[:k]
    return [found[row] for row in range(len(vectors))]


def _wrong(judgement: Judgement, hit: Hit) -> int:
    wrong, _ = judgement.votes.get(hit.image_id, (0, 0))
    return wrong
