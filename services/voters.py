"""Voters: who votes in a classification, and how reliable each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schemas.decision import ClassifyOptions, Prune
from schemas.filter import Clause
from schemas.judgement import Judgement
from services.decision.pruning import reliability
from services.judgements import Judgements
from services.memory.memory import Hit, Memory


@dataclass(frozen=True)
class Voters:
    """The use case, with the parts that it needs.

    Attributes:
        policy: how to prune where the options do not say.
    """

    memory: Memory
    judgements: Judgements
    policy: Prune = Prune.NONE

    def __call__(
        self, tenant: str, vectors: NDArray[np.float32], clauses: Sequence[Clause], options: ClassifyOptions
    ) -> tuple[list[list[Hit]], ClassifyOptions]:
        """The neighbours of each vector that vote, at most k; and the options as they were applied.

        These always say how it was pruned: ``none`` where no judgement counts.
        """
        prune = options.prune or self.policy
        judgement = None if prune is Prune.NONE else self.judgements.current(tenant)
        applied = options.model_copy(update={"prune": Prune.NONE if judgement is None else prune})
        if judgement is not None and prune is Prune.HARD:
            return self._spare(tenant, vectors, clauses, options, judgement), applied
        found = self.memory.nearest(tenant, vectors, options.k, clauses, exact=options.exact)
        if judgement is not None:
            found = [[replace(hit, reliability=reliability(_wrong(judgement, hit))) for hit in hits] for hits in found]
        return found, applied

    def _spare(
        self,
        tenant: str,
        vectors: NDArray[np.float32],
        clauses: Sequence[Clause],
        options: ClassifyOptions,
        judgement: Judgement,
    ) -> list[list[Hit]]:
        """Without those that gave too many wrong votes: as many more are asked for as it takes."""
        found: dict[int, list[Hit]] = {}
        limit = options.k
        while left := [row for row in range(len(vectors)) if row not in found]:
            limit *= 2
            answers = self.memory.nearest(tenant, vectors[left], limit, clauses, exact=options.exact)
            for row, hits in zip(left, answers, strict=True):
                kept = [hit for hit in hits if _wrong(judgement, hit) < options.prune_above]
                if len(kept) >= options.k or len(hits) < limit:
                    found[row] = kept[: options.k]
        return [found[row] for row in range(len(vectors))]


def _wrong(judgement: Judgement, hit: Hit) -> int:
    wrong, _ = judgement.votes.get(hit.image_id, (0, 0))
    return wrong
