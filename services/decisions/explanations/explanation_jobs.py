"""Counterfactuals and influence as jobs, for those that take longer than a request, with their stored results.

A result names images. So a removal deletes all explanation jobs of its tenant after it has deleted the points: a
stored result is deleted with its job, and a worker that read images before finds no job and stores nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import insert, select, update

from visual_memory.schemas.background_job import OPEN, JobKind, JobState
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.explanation import Counterfactual, Influence
from visual_memory.schemas.job_with_result import JobWithResult
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.records.tables import questions
from visual_memory.services.infrastructure.task_queue.job_records import Jobs, OwnedJob, Stopped
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.removal.covered_image_records import CoveredImages

KINDS = (JobKind.COUNTERFACTUAL, JobKind.INFLUENCE)
MAX_OPEN = 2
"""Jobs of a tenant that wait or run."""
KEPT = 20
"""Jobs of a tenant whose results are kept; the oldest are deleted."""
_RESULTS: dict[JobKind, TypeAdapter[Counterfactual] | TypeAdapter[Influence]] = {
    JobKind.COUNTERFACTUAL: TypeAdapter(Counterfactual),
    JobKind.INFLUENCE: TypeAdapter(Influence),
}


class ExplanationRequest(BaseModel):
    """What a job computes: the counterfactual of a decision, or the influence on the latest `last` decisions."""

    model_config = ConfigDict(frozen=True)

    decision: str | None = None
    last: int | None = None


class ExplanationJobs:
    """The explanation jobs of every tenant, with their results."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._database = jobs.database

    def create(
        self,
        tenant: str,
        kind: JobKind,
        request: ExplanationRequest,
        requested_by: str,
        within: Within = nothing_else,
    ) -> JobWithResult:
        """Create a job, which waits for a worker.

        Raises:
            Conflict: too many jobs of the tenant wait or run.
        """
        with self._database.write() as connection:
            self._database.serial(connection, f"jobs:{tenant}")
            jobs = self._jobs.all_within(connection, tenant, KINDS)
            open_jobs = sum(job.state in OPEN for job in jobs)
            if open_jobs >= MAX_OPEN:
                raise Conflict(
                    f"{open_jobs} explanations wait or run already: send the request again when one of them is done"
                )
            ended = [job.id for job in jobs if job.state not in OPEN]
            self._jobs.delete_within(connection, tenant, ended[KEPT - 1 - open_jobs :])
            job = self._jobs.create_within(connection, tenant, kind, requested_by)
            connection.execute(insert(questions).values(job=job.id, tenant=tenant, **dict(request)))
            within(connection, job.id)
        return JobWithResult(**dict(job), **dict(request))

    def load(self, tenant: str, job_id: str) -> JobWithResult:
        """An explanation job, with its result once it is done.

        Raises:
            NotFound: there is none, or a removal deleted it.
        """
        with self._database.read() as connection:
            job = self._jobs.load_within(connection, tenant, job_id)
            row = connection.execute(select(questions).where(questions.c.job == job_id)).first()
        if row is None:
            raise NotFound(f"there is no explanation {job_id!r}")
        fields: dict[str, object] = {**dict(job), "decision": row.decision, "last": row.last}
        if job.state is JobState.DONE and row.result is not None:
            fields["result"] = _RESULTS[job.kind].validate_json(row.result)
        return JobWithResult.model_validate(fields)

    def count(self, tenant: str) -> int:
        """The number of explanation jobs of a tenant."""
        return len(self._jobs.all(tenant, *KINDS))

    def request_of(self, owned: OwnedJob) -> ExplanationRequest:
        """What a job computes.

        Raises:
            Stopped: the job was deleted.
        """
        query = select(questions).where(questions.c.tenant == owned.tenant, questions.c.job == owned.id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise Stopped(owned.id)
        return ExplanationRequest(decision=row.decision, last=row.last)

    def store_result(self, owned: OwnedJob, result: Counterfactual | Influence) -> None:
        """Store the result of a job.

        Raises:
            Stopped: a removal deleted the job meanwhile, or another worker has begun it.
        """
        with self._database.write() as connection:
            self._jobs.check(connection, owned)
            this_job = questions.c.job == owned.id
            connection.execute(update(questions).where(this_job).values(result=result.model_dump_json()))

    def remove_covered(self, tenant: str, covered: CoveredImages) -> None:
        """Delete every explanation job of a tenant, as removed images may be part of its result: the removal's hook."""
        if covered:
            self._jobs.delete_all(tenant, *KINDS)


@dataclass(frozen=True)
class EnqueueExplanation:
    """Creates an explanation job and enqueues it."""

    jobs: ExplanationJobs
    enqueue: Callable[[str], object]

    def __call__(
        self,
        tenant: str,
        kind: JobKind,
        request: ExplanationRequest,
        requested_by: str,
        within: Within = nothing_else,
    ) -> JobWithResult:
        """The job; see `ExplanationJobs.create`."""
        job = self.jobs.create(tenant, kind, request, requested_by, within)
        self.enqueue(tenant)
        return job


@dataclass(frozen=True)
class RunExplanation:
    """The use case of a worker: runs jobs of the kinds ``counterfactual`` and ``influence``."""

    jobs: ExplanationJobs
    explain: Explain

    def __call__(self, owned: OwnedJob, progress: Progress) -> None:
        """Compute and store the result; idempotent.

        Raises:
            Stopped: the job was cancelled, or deleted, maybe by a removal.
            NotFound, EncoderMismatch, InvalidFilter: as in `FindCounterfactual`.
        """
        request = self.jobs.request_of(owned)
        result: Counterfactual | Influence
        if request.decision is not None:
            result = self.explain.counterfactual(owned.tenant, request.decision, progress=progress)
        else:
            result = self.explain.influence(owned.tenant, request.last or 1, progress=progress)
        self.jobs.store_result(owned, result)
