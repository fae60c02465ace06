"""Question a decision: run it again, find what it hangs on, see what an intervention would change.

A decision is compared by the vectors of the encoder that it was made with, as long as the memory knows that one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from visual_memory.schemas.classify_options import MAX_VOTES, ClassifyOptions, Effort
from visual_memory.schemas.decision import Decision, Decisions, Neighbour
from visual_memory.schemas.errors import EncoderMismatch, InvalidRequest, TooLarge
from visual_memory.schemas.explanation import (
    Counterfactual,
    Gone,
    Influence,
    InfluentialImage,
    LabelChange,
    Pivot,
    Preview,
    PreviewRequest,
    Replay,
    ReplayRequest,
    Weight,
)
from visual_memory.schemas.filter import MAX_VALUES, Clause, matches
from visual_memory.schemas.image import State, StoredImage, now
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.classification.classify import Classify, WhatIf
from visual_memory.services.decisions.decision_difference import compare, influence, voted
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups, into_groups
from visual_memory.services.voting.label_hierarchy import depth
from visual_memory.services.voting.smallest_flip import smallest_flip, table_cells

TOP = 20
FLIPS = (16, 64, 256)
"""How many images may go to flip a decision: looked for among few first, since the search goes as far beyond the k."""
READ_AT_ONCE = 1000
TRUNCATED = "so many images are equally near, or share a vote, that others took the places of those that went"


class OverBudget(Exception):
    """A question takes more than its budget."""


@dataclass(frozen=True)
class Budget:
    """What answering a question may take.

    Attributes:
        images: that are compared with the decision's vector, again and again.
        cells: of the tables that a counterfactual is found by; some 50 ns each.
        bytes: of stored decisions that are read.
        refuses: whether what takes more is refused; else less is looked for, and the answer says so.
    """

    images: float
    cells: float
    bytes: float
    refuses: bool


AT_ONCE = Budget(images=100_000, cells=2e7, bytes=32 * 2**20, refuses=True)
"""A second or so; what takes more is a job."""
AS_A_JOB = Budget(images=math.inf, cells=5e8, bytes=math.inf, refuses=False)
"""Half a minute for each size of a counterfactual; larger sets are not looked for, and the answer says so."""


def nobody_is_told(_stage: str, _done: int, _total: int) -> None:
    """Progress of what is answered at once."""


@dataclass(frozen=True)
class _Asked:
    """What a stored decision was asked with: the options of the vote alone, and a vector float32 [dimension]."""

    id: str
    asked_at: datetime
    encoder: str
    options: ClassifyOptions
    query: Vectors


@dataclass(frozen=True)
class Question:
    """The use case, with the parts that it needs.

    Attributes:
        classify: by the vectors of the encoder that classifies.
        classify_by: the same by those of another that the memory knows; raises `EncoderMismatch` where it knows none.
    """

    classify: Classify
    decisions: StoredDecisions
    classify_by: Callable[[str], Classify]

    def replay(self, tenant: str, decision_id: str, request: ReplayRequest) -> Replay:
        """Run a stored decision against today's memory, and say what is different.

        Raises:
            NotFound: there is no such decision.
            EncoderMismatch: it was made with the vectors of an encoder that was dropped since.
            InvalidFilter: its filter, or the one that is given instead, cannot be met any more.
        """
        stored = self.decisions.load(tenant, decision_id)
        options = _whole(request.options or stored.options)
        classify, query = self._by(stored.decision.encoder), query_vector(stored)[None]
        today = classify.decide(tenant, query, options, WhatIf(without=request.without))
        [decision] = today.decisions
        found = compare(stored.decision, decision)
        held = self.classify.memory.get(tenant, [each.image_id for each in found.gone])
        clauses = options.filter.clauses(self.classify.memory.metadata)
        before = voted(stored.decision)
        return Replay(
            before=before,
            changed=before != decision.label,
            options=today.options,
            decision=decision,
            came=found.came,
            gone=[
                Gone(neighbour=each, why=_why_gone(each, held.get(each.image_id), request.without, clauses))
                for each in found.gone
            ],
            relabelled=found.relabelled,
            reweighted=found.reweighted,
        )

    def counterfactual(
        self, tenant: str, decision_id: str, budget: Budget = AS_A_JOB, progress: Progress = nobody_is_told
    ) -> Counterfactual:
        """The fewest images without which a stored decision, made again today, would have another label.

        It is computed from the votes and then run against the memory without them. The search is exact, so the set is
        the minimum; where two are as small, it is one of them.

        Raises:
            NotFound, EncoderMismatch, InvalidFilter: as in `replay`.
            OverBudget: it takes more than what may be done at once.
        """
        stored = self.decisions.load(tenant, decision_id)
        classify, query = self._by(stored.decision.encoder), query_vector(stored)[None]
        exact = _vote_alone(stored.options).model_copy(update={"search": Effort.EXACT})
        clauses = exact.filter.clauses(self.classify.memory.metadata)
        if self.classify.memory.counts_by_state(tenant, clauses).get(State.REMEMBERED, 0) > budget.images:
            raise OverBudget
        options = _at_its_level(classify.decide(tenant, query, exact))
        tried = 0
        for done, most in enumerate(FLIPS):
            progress("counterfactual", done, len(FLIPS))
            [hits], *_ = classify.search(tenant, query, options, options.k + most)
            if table_cells(hits, most) > budget.cells and (tried or budget.refuses):
                if budget.refuses:
                    raise OverBudget
                break
            places, tried = smallest_flip(hits, options, most), most
            if places is not None:
                break
        voters, _ = first_groups(hits, options.k)
        counted = Counterfactual(label=decide(voters, options, stored.decision.encoder).label, truncated=hits.truncated)
        if places is None:
            reason = f"no {tried} images or fewer decide it: it keeps its label"
            return counted.model_copy(update={"reason": reason})
        flipping = {hits[place].image_id for place in places}
        pivots = [
            Pivot(rank=rank, image_id=hit.image_id, similarity=hit.similarity, labels=list(hit.labels))
            for rank, group in enumerate(into_groups(hits))
            for hit in group
            if hit.image_id in flipping
        ]
        what_if = WhatIf(without=[each.image_id for each in pivots])
        [without] = classify.decide(tenant, query, options, what_if).decisions
        if without.label == counted.label:
            reason = TRUNCATED if hits.truncated else "the memory is changing at this moment: ask again"
            return counted.model_copy(update={"reason": reason})
        return counted.model_copy(update={"becomes": without.label, "images": pivots})

    def preview(self, tenant: str, request: PreviewRequest) -> Preview:
        """Which of the latest stored decisions would have another label if something were done to images.

        Both labels are of today's memory, so that nothing but the intervention tells them apart; they are those of the
        vote, before abstaining or a re-rank. A filter on labels still speaks of those that images have.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            InvalidRequest: it covers too many images.
            TooLarge: so many decisions are too much to run again at once.
        """
        if self.decisions.bytes_of_latest(tenant, request.last) > AT_ONCE.bytes:
            raise TooLarge(
                f"the latest {request.last:,} decisions are over {AT_ONCE.bytes:,} bytes, more than is read at once:"
                " ask with a smaller `last`"
            )
        ids = self._covered(tenant, request)
        what_if = WhatIf(labels=dict.fromkeys(ids, request.labels)) if request.labels else WhatIf(without=ids)
        looked_at, touched, changed = 0, 0, list[LabelChange]()
        for group in self._by_options(self.decisions.latest(tenant, request.last)):
            classify, options = self._by(group[0].encoder), group[0].options
            queries = np.stack([each.query for each in group])
            before = classify.decide(tenant, queries, options).decisions
            hit = [row for row, each in enumerate(before) if not _voters(each).isdisjoint(ids)]
            after = classify.decide(tenant, queries[hit], options, what_if).decisions
            looked_at, touched = looked_at + len(group), touched + len(hit)
            changed += [
                LabelChange(id=group[row].id, asked_at=group[row].asked_at, before=old.label, after=new.label)
                for row, old, new in zip(hit, (before[row] for row in hit), after, strict=True)
                if old.label != new.label
            ]
        changed.sort(key=lambda change: change.id, reverse=True)
        return Preview(images=len(ids), decisions=looked_at, touched=touched, changed=changed)

    def influence(
        self, tenant: str, last: int, budget: Budget = AS_A_JOB, progress: Progress = nobody_is_told
    ) -> Influence:
        """Which images decided most of the latest stored decisions, as they were made.

        Raises:
            OverBudget: it takes more than what may be done at once.
        """
        if self.decisions.bytes_of_latest(tenant, last) > budget.bytes:
            raise OverBudget

        def read() -> Iterator[Decision]:
            for done, each in enumerate(self.decisions.latest(tenant, last)):
                progress("decisions", done, last)
                yield each.decision

        number, parts, labels = influence(read())
        ids = list(parts)
        held: dict[str, StoredImage] = {}
        for start in range(0, len(ids), READ_AT_ONCE):
            held |= self.classify.memory.get(tenant, ids[start : start + READ_AT_ONCE])
        sources: dict[str | None, float] = {}
        for image_id, image in held.items():
            sources[image.source] = sources.get(image.source, 0.0) + parts[image_id].share
        ranked = sorted(sources.items(), key=lambda item: (-item[1], item[0] or ""))
        return Influence(
            decisions=number,
            images=[
                InfluentialImage(
                    image_id=image_id,
                    labels=held[image_id].labels,
                    source=held[image_id].source,
                    share=parts[image_id].share,
                    decisions=parts[image_id].decisions,
                )
                for image_id in [each for each in ids if each in held][:TOP]
            ],
            labels=[Weight(name=name, share=share) for name, share in list(labels.items())[:TOP]],
            sources=[Weight(name=name, share=share) for name, share in ranked[:TOP]],
        )

    def _by(self, encoder: str) -> Classify:
        return self.classify if encoder == self.classify.encoder.name else self.classify_by(encoder)

    def _knows(self, encoder: str) -> bool:
        try:
            return bool(self._by(encoder))
        except EncoderMismatch:
            return False

    def _by_options(self, stored: Iterable[StoredDecision]) -> Iterator[list[_Asked]]:
        """What was asked with known encoders, in groups that one search serves; without the decisions themselves."""
        groups: dict[tuple[str, str], list[_Asked]] = {}
        for each in stored:
            encoder, options = each.decision.encoder, _vote_alone(each.options)
            asked = _Asked(each.id, each.asked_at, encoder, options, query_vector(each))
            groups.setdefault((encoder, options.model_dump_json()), []).append(asked)
        for group in groups.values():
            if self._knows(group[0].encoder):
                step = max(1, MAX_VOTES // group[0].options.k)
                yield from (group[start : start + step] for start in range(0, len(group), step))

    def _covered(self, tenant: str, request: PreviewRequest) -> list[str]:
        """The ids of the images that it would be done to."""
        memory = self.classify.memory
        if request.filter is None:
            return sorted(memory.get(tenant, request.image_ids))
        images, following = memory.page(tenant, request.filter.clauses(memory.metadata), MAX_VALUES)
        if following is not None:
            raise InvalidRequest(f"filter: it covers more than the {MAX_VALUES} images that a preview takes; narrow it")
        return sorted(image.image_id for image in images)


def _whole(options: ClassifyOptions) -> ClassifyOptions:
    """The options, with every neighbour shown, and nothing kept or sent anywhere."""
    return options.model_copy(update={"show": None, "store": False, "rerank": False})


def _vote_alone(options: ClassifyOptions) -> ClassifyOptions:
    """The options of the vote, without what is made of its outcome."""
    return _whole(options).model_copy(update={"unknown_above": None, "coverage": None})


def _at_its_level(made: Decisions) -> ClassifyOptions:
    """The options by which a vote comes out as it did without backing off: at the level that it backed off to."""
    [decision] = made.decisions
    if made.options.back_off is None or not decision.shares:
        return made.options
    level = max(depth(each.label) for each in decision.shares)
    return made.options.model_copy(update={"level": level, "back_off": None})


def _voters(decision: Decision) -> set[str]:
    return {neighbour.image_id for neighbour in decision.neighbours}


def _why_gone(
    neighbour: Neighbour, image: StoredImage | None, without: Sequence[str], clauses: Sequence[Clause]
) -> str:
    if neighbour.image_id in without:
        return "left out, as asked"
    if image is None:
        return "removed"
    if image.removal is not None or image.state is not State.REMEMBERED:
        return "being removed" if image.removal else str(image.state)
    if image.has_expired(now()):
        return "expired"
    if not matches(clauses, image):
        return "does not meet the filter"
    return "others are nearer"
