"""Questions that take longer than an answer may: a counterfactual, or an influence, as a job with its result.

What is found names images, so a removal takes it away, and what is being found from images that were read before they
went. So what was asked is a record under ``questions/TENANT/ID``, and its result, ``questions/TENANT/ID.found``, counts
only while that record is there; a removal deletes all records of its tenant after its points are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from schemas.errors import Conflict, NotFound
from schemas.job import Job, JobKind, JobState
from schemas.question import Counterfactual, Influence, QuestionJob
from services.answers.question import Question
from services.forgetting.covered_images import CoveredImages
from services.memory.ledger import Ledger
from services.runtime.jobs import Jobs, Progress, Stopped

KINDS = (JobKind.COUNTERFACTUAL, JobKind.INFLUENCE)
AT_WORK = (JobState.WAITING, JobState.RUNNING)
MOST_AT_WORK = 2
"""Questions of a tenant that wait or run."""
KEPT = 20
"""Questions of a tenant whose results are kept; the oldest go."""
FOUND = ".found"


class Asked(BaseModel):
    """What a job is to find: a decision's counterfactual, or the influence on so many of the latest decisions."""

    model_config = ConfigDict(frozen=True)

    decision: str | None = None
    last: int | None = None


class Questions:
    """The questions of every tenant that are jobs, with their results."""

    def __init__(self, ledger: Ledger, jobs: Jobs) -> None:
        self._ledger = ledger
        self._jobs = jobs

    def create(self, tenant: str, kind: JobKind, asked: Asked, requested_by: str) -> QuestionJob:
        """A new question, which waits for a worker.

        Raises:
            Conflict: too many are at work.
        """
        jobs = [job for each in KINDS for job in self._jobs.all(tenant, each)]
        at_work = sum(job.state in AT_WORK for job in jobs)
        if at_work >= MOST_AT_WORK:
            raise Conflict(f"{at_work} questions wait or run already: ask this one when one of them is done")
        idle = sorted((job for job in jobs if job.state not in AT_WORK), key=lambda job: job.requested_at)
        for job in idle[: max(0, len(jobs) + 1 - KEPT)]:
            self.delete(tenant, job.id)
        job = self._jobs.create(tenant, kind, requested_by)
        self._ledger.create(_key(tenant, job.id), asked.model_dump(mode="json"))
        return self.load(tenant, job.id)

    def load(self, tenant: str, job_id: str) -> QuestionJob:
        """A job; of a question, with what was found once it is done.

        Raises:
            NotFound: there is none, or a removal took it away.
        """
        job = self._jobs.load(tenant, job_id)  # what comes from a URL is a UUID from here on
        if job.kind not in KINDS:
            return QuestionJob(**dict(job))
        asked = self.asked(tenant, job_id)
        result = None
        if job.state is JobState.DONE:
            result = self._ledger.get(_key(tenant, job_id) + FOUND)
        return QuestionJob.model_validate({**dict(job), **dict(asked), job.kind.value: result})

    def asked(self, tenant: str, job_id: str) -> Asked:
        """What is to be found.

        Raises:
            NotFound: there is no such question, or a removal took it away.
        """
        try:
            return Asked.model_validate(self._ledger.get(_key(tenant, job_id)))
        except NotFound:
            raise NotFound(f"there is no job {job_id!r}: a removal takes questions away, ask again") from None

    def keep(self, tenant: str, job_id: str, result: Counterfactual | Influence) -> None:
        """Keep what was found.

        Raises:
            NotFound: a removal took the question away meanwhile.
        """
        self._ledger.put(_key(tenant, job_id) + FOUND, result.model_dump(mode="json"))
        if not self._ledger.exists(_key(tenant, job_id)):
            self.delete(tenant, job_id)
            raise NotFound(f"there is no job {job_id!r}")

    def delete(self, tenant: str, job_id: str) -> None:
        """Delete all of a question, the record first; a worker that is at it stops."""
        self._ledger.delete(_key(tenant, job_id))
        self._ledger.delete(_key(tenant, job_id) + FOUND)
        self._jobs.delete(tenant, job_id)

    def forget(self, tenant: str, _covered: CoveredImages) -> None:
        """Delete every question of a tenant, as images that are gone had a part in it: the removal's hook."""
        records = {key.rpartition("/")[2].removesuffix(FOUND) for key in self._ledger.list(f"questions/{tenant}/")}
        for job_id in records | {job.id for kind in KINDS for job in self._jobs.all(tenant, kind)}:
            self.delete(tenant, job_id)


@dataclass(frozen=True)
class AskLater:
    """Lets the workers find what takes longer than an answer may."""

    questions: Questions
    enqueue: Callable[[str], object]

    def __call__(self, tenant: str, kind: JobKind, asked: Asked, requested_by: str) -> QuestionJob:
        """The job; see `Questions.create`."""
        job = self.questions.create(tenant, kind, asked, requested_by)
        self.enqueue(tenant)
        return job


@dataclass(frozen=True)
class AnswerQuestion:
    """The use case of a worker: does a job of the kinds ``counterfactual`` and ``influence``."""

    questions: Questions
    question: Question

    def __call__(self, tenant: str, job: Job, progress: Progress) -> None:
        """Find what was asked; done twice, it is as if it were done once.

        Raises:
            Stopped: it was deleted, or a removal took it away.
            NotFound, EncoderMismatch, InvalidFilter: as in `Question.counterfactual`.
        """
        try:
            asked = self.questions.asked(tenant, job.id)
        except NotFound:
            self.questions.delete(tenant, job.id)
            raise Stopped from None
        result: Counterfactual | Influence
        if asked.decision is not None:
            result = self.question.counterfactual(tenant, asked.decision, progress=progress)
        else:
            result = self.question.influence(tenant, asked.last or 1, progress=progress)
        try:
            self.questions.keep(tenant, job.id, result)
        except NotFound:
            raise Stopped from None


def _key(tenant: str, job_id: str) -> str:
    return f"questions/{tenant}/{job_id}"
