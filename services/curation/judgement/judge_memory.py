"""Judge: a pass over a tenant's memory, in which each image is classified by the others."""

from dataclasses import dataclass

import numpy as np

from visual_memory.schemas.classify_options import MAX_TIMES_K
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, now
from visual_memory.schemas.judgement import CalibrationSample, Judgement
from visual_memory.services.curation.judgement.judgement_input import JudgementInput
from visual_memory.services.curation.judgement.leave_one_out_votes import (
    ImagesWithNeighbours,
    class_reports,
    leave_one_out_votes,
    voting_neighbours,
)
from visual_memory.services.curation.judgement.neighbour_lists import MIN_NEIGHBOURS
from visual_memory.services.curation.judgement.score_suspects import find_suspects
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER
from visual_memory.services.infrastructure.task_queue.job_records import OwnedJob
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory import Memory
from visual_memory.services.voting.exact_neighbours import MISSING, Rows
from visual_memory.services.voting.image_reliability import count_votes, votes_are_right

SAMPLE = 1000
PRUNED = Clause("doubt", FieldType.KEYWORD, (Doubt.PRUNED.value,))


@dataclass(frozen=True)
class JudgeMemory:
    """The use case: does a job of the kind ``judgement``.

    What the judgement before was made of is taken, and what changed since is folded in; the result is that of a pass
    that begins with nothing.

    Attributes:
        k: how many neighbours vote, at most `MIN_NEIGHBOURS`.
    """

    memory: Memory
    judgements: StoredJudgements
    fold: UpdateJudgementInput
    k: int

    def __call__(self, owned: OwnedJob, progress: Progress) -> None:
        """Judge a tenant's memory.

        Raises:
            Stopped: the job was deleted, or another worker has begun it since.
            InvalidRequest: it holds too many images.
        """
        self.judge(owned.tenant, progress, owned)

    def judge(self, tenant: str, progress: Progress, owner: OwnedJob | None = None) -> None:
        """The same; without a job, for one who waits for it."""
        if not self.judgements.any_counts(tenant):
            self.memory.mutes.unmute(tenant, [PRUNED])  # a crash may have left what was muted by one that was voided
        unkept = None
        while True:
            registration = self.judgements.register(tenant)
            base = self._base(tenant)
            # Where removals came in between and left nothing to begin with, what was compared already is not lost.
            # Nor is it told what changed since a moment that cannot have been yet, as the clock was set back.
            complete = base is None or base.read_at - now() > CLOCKS_DIFFER
            base = base or unkept or JudgementInput.of_none(now())
            unkept = self.fold(tenant, base, complete, progress)
            progress("counted", 0, len(unkept.image_ids))
            judgement = make_judgement(unkept, registration, self.judgements.encoder, self.k)
            if self.judgements.keep(tenant, judgement, unkept, owner):
                return

    def _base(self, tenant: str) -> JudgementInput | None:
        judgement = self.judgements.current(tenant)
        return None if judgement is None else self.judgements.made_of(tenant, judgement)


def make_judgement(images: JudgementInput, judgement_id: str, encoder: str, k: int) -> Judgement:
    """What the neighbours of images say of each; only of and by those that vote.

    Args:
        images: each with at least `looked_at` neighbours that vote, sampled images (`sampled`) with `MIN_NEIGHBOURS`;
            with all others where there are fewer.
        judgement_id: of the judgement.
        encoder: whose vectors were compared.
        k: how many contents vote on each.
    """
    judged = images.voting()
    memories = _memories(judged, k)
    votes = count_votes(memories.rows, votes_are_right(memories.labels, memories.rows))
    found = leave_one_out_votes(memories)
    given = zip(judged.image_ids, votes.tolist(), strict=True)
    return Judgement(
        id=judgement_id,
        made_at=images.read_at,
        encoder=encoder,
        k=k,
        images=len(judged.image_ids),
        votes={image_id: (wrong, right) for image_id, (wrong, right) in given if wrong or right},
        classes=class_reports(judged.labels, found),
        suspects=find_suspects(memories, found),
        sample=_sample(judged, memories.contents, votes[:, 0]),
    )


def wrong_votes(images: JudgementInput, k: int) -> list[int]:
    """The wrong votes that each of some images would have given, had all of them voted."""
    memories = _memories(images, k)
    wrong: list[int] = count_votes(memories.rows, votes_are_right(memories.labels, memories.rows))[:, 0].tolist()
    return wrong


def looked_at(k: int) -> int:
    """How many neighbours are looked at for k contents: as many as in a classification, of those that are kept."""
    return min(MAX_TIMES_K * k, MIN_NEIGHBOURS)


def _memories(images: JudgementInput, k: int) -> ImagesWithNeighbours:
    width, contents = looked_at(k), np.unique(images.contents, return_inverse=True)[1]
    near, rows = images.lists.similarities[:, :width], images.lists.rows[:, :width].astype(np.int64)
    return ImagesWithNeighbours(images.image_ids, images.labels, *voting_neighbours(near, rows, contents, k), contents)


def sampled(images: int) -> Rows:
    """Which of so many images are the sample: spread evenly by the order of their ids; int64 [n]."""
    return np.linspace(0, max(0, images - 1), min(images, SAMPLE)).astype(np.int64)


def _sample(judged: JudgementInput, contents: Rows, wrong: Rows) -> CalibrationSample:
    """Some of the images, with more of their neighbours."""
    drawn, labels = sampled(len(judged.image_ids)), judged.labels
    rows, similarities = judged.lists.rows[drawn, :MIN_NEIGHBOURS], judged.lists.similarities[drawn, :MIN_NEIGHBOURS]
    there = rows != MISSING
    groups = np.unique(contents, return_inverse=True)[1]
    return CalibrationSample(
        labels=[labels[row] for row in drawn.tolist()],
        similarities=[found[held].tolist() for found, held in zip(similarities, there, strict=True)],
        neighbour_labels=[
            [labels[row] for row in found[held].tolist()] for found, held in zip(rows, there, strict=True)
        ],
        neighbour_wrong=[wrong[found[held]].tolist() for found, held in zip(rows, there, strict=True)],
        neighbour_groups=[groups[found[held]].tolist() for found, held in zip(rows, there, strict=True)],
    )
