"""Questions that take longer than an answer may: a counterfactual, or an influence, as a job with its result.

What is found names images, so a removal takes it away, and what is being found from images that were read before they
went: it deletes all questions of its tenant after its points are gone, and a worker whose job is gone keeps nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import insert, select, update

from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.errors import Conflict
from visual_memory.schemas.explanation import Counterfactual, ExplanationJob, Influence
from visual_memory.services.decisions.explain_decision import Question
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.records.tables import questions
from visual_memory.services.infrastructure.task_queue.job_records import OPEN, Jobs, OwnedJob, Stopped
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.removal.covered_images import CoveredImages

KINDS = (JobKind.COUNTERFACTUAL, JobKind.INFLUENCE)
MAX_AT_WORK = 2
"""Questions of a tenant that wait or run."""
KEPT = 20
"""Questions of a tenant whose results are kept; the oldest go."""
_RESULTS: dict[JobKind, TypeAdapter[Counterfactual] | TypeAdapter[Influence]] = {
    JobKind.COUNTERFACTUAL: TypeAdapter(Counterfactual),
    JobKind.INFLUENCE: TypeAdapter(Influence),
}


class ExplanationRequest(BaseModel):
    """What a job is to find: a decision's counterfactual, or the influence on so many of the latest decisions."""

    model_config = ConfigDict(frozen=True)

    decision: str | None = None
    last: int | None = None


class ExplanationJobs:
    """The questions of every tenant that are jobs, with their results."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._database = jobs.database

    def create(
        self, tenant: str, kind: JobKind, asked: ExplanationRequest, requested_by: str, within: Within = nothing_else
    ) -> ExplanationJob:
        """A new question, which waits for a worker.

        Raises:
            Conflict: too many are at work.
        """
        with self._database.write() as connection:
            self._database.serial(connection, f"jobs:{tenant}")
            held = self._jobs.all_within(connection, tenant, KINDS)
            at_work = sum(job.state in OPEN for job in held)
            if at_work >= MAX_AT_WORK:
                raise Conflict(f"{at_work} questions wait or run already: ask this one when one of them is done")
            idle = [job.id for job in held if job.state not in OPEN]
            self._jobs.delete_within(connection, tenant, idle[KEPT - 1 - at_work :])
            job = self._jobs.create_within(connection, tenant, kind, requested_by)
            connection.execute(insert(questions).values(job=job.id, tenant=tenant, **dict(asked)))
            within(connection, job.id)
        return ExplanationJob(**dict(job), **dict(asked))

    def load(self, tenant: str, job_id: str) -> ExplanationJob:
        """A job; of a question, with what was found once it is done.

        Raises:
            NotFound: there is none, or a removal took it away.
        """
        with self._database.read() as connection:
            job = self._jobs.load_within(connection, tenant, job_id)
            held = connection.execute(select(questions).where(questions.c.job == job_id)).first()
        if held is None:
            return ExplanationJob(**dict(job))
        told: dict[str, object] = {**dict(job), "decision": held.decision, "last": held.last}
        if job.state is JobState.DONE and held.result is not None:
            told[job.kind.value] = _RESULTS[job.kind].validate_json(held.result)
        return ExplanationJob.model_validate(told)

    def asked(self, owned: OwnedJob) -> ExplanationRequest:
        """What is to be found.

        Raises:
            Stopped: the question is gone.
        """
        query = select(questions).where(questions.c.tenant == owned.tenant, questions.c.job == owned.id)
        with self._database.read() as connection:
            held = connection.execute(query).first()
        if held is None:
            raise Stopped(owned.id)
        return ExplanationRequest(decision=held.decision, last=held.last)

    def keep(self, owned: OwnedJob, result: Counterfactual | Influence) -> None:
        """Keep what was found.

        Raises:
            Stopped: a removal took the question away meanwhile, or another worker has begun it.
        """
        with self._database.write() as connection:
            self._jobs.check(connection, owned)
            ours = questions.c.job == owned.id
            connection.execute(update(questions).where(ours).values(result=result.model_dump_json()))

    def forget(self, tenant: str, covered: CoveredImages) -> None:
        """Delete every question of a tenant, as images that are gone had a part in it: the removal's hook."""
        if covered:
            self._jobs.delete_all(tenant, *KINDS)


@dataclass(frozen=True)
class EnqueueExplanation:
    """Lets the workers find what takes longer than an answer may."""

    questions: ExplanationJobs
    enqueue: Callable[[str], object]

    def __call__(
        self, tenant: str, kind: JobKind, asked: ExplanationRequest, requested_by: str, within: Within = nothing_else
    ) -> ExplanationJob:
        """The job; see `ExplanationJobs.create`."""
        job = self.questions.create(tenant, kind, asked, requested_by, within)
        self.enqueue(tenant)
        return job


@dataclass(frozen=True)
class RunExplanation:
    """The use case of a worker: does a job of the kinds ``counterfactual`` and ``influence``."""

    questions: ExplanationJobs
    question: Question

    def __call__(self, owned: OwnedJob, progress: Progress) -> None:
        """Find what was asked; done twice, it is as if it were done once.

        Raises:
            Stopped: it was deleted, or a removal took it away.
            NotFound, EncoderMismatch, InvalidFilter: as in `Question.counterfactual`.
        """
        asked = self.questions.asked(owned)
        result: Counterfactual | Influence
        if asked.decision is not None:
            result = self.question.counterfactual(owned.tenant, asked.decision, progress=progress)
        else:
            result = self.question.influence(owned.tenant, asked.last or 1, progress=progress)
        self.questions.keep(owned, result)
