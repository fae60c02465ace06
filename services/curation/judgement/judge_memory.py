"""Judge a memory: classify every image by the others, and store the judgement."""

from dataclasses import dataclass

import numpy as np

from visual_memory.schemas.classify_options import MAX_TIMES_K
from visual_memory.schemas.event import EventType
from visual_memory.schemas.image import Doubt
from visual_memory.schemas.judgement import CalibrationSample, Judgement
from visual_memory.schemas.moments import now
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
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER
from visual_memory.services.infrastructure.task_queue.job_records import OwnedJob
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import doubted
from visual_memory.services.voting.brute_force_neighbours import MISSING, Rows
from visual_memory.services.voting.image_reliability import count_votes, votes_are_right

SAMPLE = 1000
PRUNED = doubted(Doubt.PRUNED)


@dataclass(frozen=True)
class JudgeMemory:
    """Runs jobs of the kind ``judgement``.

    A pass begins with the input of the previous judgement and applies what changed since. The result equals that of a
    pass which begins with nothing.

    Attributes:
        k: how many neighbours vote, at most `MIN_NEIGHBOURS`.
        publish: publishes the event ``judged``.
    """

    memory: Memory
    judgements: StoredJudgements
    update_input: UpdateJudgementInput
    k: int
    publish: Publish = publish_nothing

    def __call__(self, owned: OwnedJob, progress: Progress) -> None:
        """Judge the memory of a job's tenant.

        Raises:
            Stopped: the job was deleted, or another worker owns it.
            InvalidRequest: the memory has too many images.
        """
        self.judge(owned.tenant, progress, owned)

    def judge(self, tenant: str, progress: Progress, owner: OwnedJob | None = None) -> None:
        """Judge a tenant's memory, for a job if `owner` is given."""
        if not self.judgements.exists_any(tenant):
            self.memory.mutes.unmute(tenant, [PRUNED])  # left by a crash after their judgement was voided
        updated = None
        while True:
            registration = self.judgements.register(tenant)
            base = self._base(tenant)
            # If removals voided the base meanwhile, continue from what this pass has compared already. Read everything
            # if the base was read in the future: the clock was set back, so changes since then cannot be queried.
            complete = base is None or base.read_at - now() > CLOCKS_DIFFER
            base = base or updated or JudgementInput.of_none(now())
            updated = self.update_input(tenant, base, complete, progress)
            progress("counted", 0, len(updated.image_ids))
            judgement = make_judgement(updated, registration, self.judgements.encoder, self.k)
            if self.judgements.store(tenant, judgement, updated, owner):
                job_id = None if owner is None else owner.id
                self.publish(tenant, EventType.JUDGED, count=judgement.images, job_id=job_id)
                return

    def _base(self, tenant: str) -> JudgementInput | None:
        judgement = self.judgements.current(tenant)
        return None if judgement is None else self.judgements.input_of(tenant, judgement)


def make_judgement(images: JudgementInput, judgement_id: str, encoder: str, k: int) -> Judgement:
    """Judge the images that vote, by the images that vote.

    Args:
        images: each with at least `neighbours_searched` neighbours that vote, sampled images (`sample_rows`) with
            `MIN_NEIGHBOURS`; with all others where there are fewer.
        judgement_id: the judgement's id.
        encoder: whose vectors were compared.
        k: how many distinct contents vote on each image.
    """
    judged = images.voting()
    with_neighbours = _with_neighbours(judged, k)
    votes = count_votes(with_neighbours.rows, votes_are_right(with_neighbours.labels, with_neighbours.rows))
    predicted = leave_one_out_votes(with_neighbours)
    given = zip(judged.image_ids, votes.tolist(), strict=True)
    return Judgement(
        id=judgement_id,
        made_at=images.read_at,
        encoder=encoder,
        k=k,
        images=len(judged.image_ids),
        votes={image_id: (wrong, right) for image_id, (wrong, right) in given if wrong or right},
        classes=class_reports(judged.labels, predicted),
        suspects=find_suspects(with_neighbours, predicted),
        sample=_sample(judged, with_neighbours.contents, votes[:, 0]),
    )


def wrong_votes(images: JudgementInput, k: int) -> list[int]:
    """The number of wrong votes that each image would give if all of them voted."""
    with_neighbours = _with_neighbours(images, k)
    right = votes_are_right(with_neighbours.labels, with_neighbours.rows)
    wrong: list[int] = count_votes(with_neighbours.rows, right)[:, 0].tolist()
    return wrong


def neighbours_searched(k: int) -> int:
    """How many neighbours are searched for k contents: as many as in a classification, of those that are listed."""
    return min(MAX_TIMES_K * k, MIN_NEIGHBOURS)


def _with_neighbours(images: JudgementInput, k: int) -> ImagesWithNeighbours:
    width, contents = neighbours_searched(k), np.unique(images.contents, return_inverse=True)[1]
    near, rows = images.lists.similarities[:, :width], images.lists.rows[:, :width].astype(np.int64)
    return ImagesWithNeighbours(images.image_ids, images.labels, *voting_neighbours(near, rows, contents, k), contents)


def sample_rows(images: int) -> Rows:
    """The rows of the calibration sample, spread evenly over the order of ids; int64 [min(images, SAMPLE)]."""
    return np.linspace(0, max(0, images - 1), min(images, SAMPLE)).astype(np.int64)


def _sample(judged: JudgementInput, contents: Rows, wrong: Rows) -> CalibrationSample:
    """Some of the images, with up to `MIN_NEIGHBOURS` neighbours each."""
    drawn, labels = sample_rows(len(judged.image_ids)), judged.labels
    rows = judged.lists.rows[drawn, :MIN_NEIGHBOURS]
    similarities = judged.lists.similarities[drawn, :MIN_NEIGHBOURS]
    present = rows != MISSING
    groups = np.unique(contents, return_inverse=True)[1]
    return CalibrationSample(
        labels=[labels[row] for row in drawn.tolist()],
        similarities=[found[mask].tolist() for found, mask in zip(similarities, present, strict=True)],
        neighbour_labels=[
            [labels[row] for row in found[mask].tolist()] for found, mask in zip(rows, present, strict=True)
        ],
        neighbour_wrong=[wrong[found[mask]].tolist() for found, mask in zip(rows, present, strict=True)],
        neighbour_groups=[groups[found[mask]].tolist() for found, mask in zip(rows, present, strict=True)],
    )
