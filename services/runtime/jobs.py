"""Jobs: their records, and how a worker does one.

A job is a record under ``jobs/``; whoever deletes the record stops the job at its next progress. A worker that dies
leaves it untouched, and the sweep enqueues it again; it then begins anew, so a job must be harmless when repeated.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from schemas.errors import NotFound, Unavailable, VisualMemoryError
from schemas.image import now
from schemas.job import Job, JobKind, JobState
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.memory.ledger import Ledger

TOUCH_SECONDS = 1.0
"""How often progress is written at most."""

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Says how far a job is: the stage, how much of it is done, out of how much. Raises `Stopped` where it was deleted."""
Work = Callable[[str, Job, Progress], None]
"""Does a job of a tenant."""


class Stopped(Exception):
    """The job's record is gone, so nobody wants it any more."""


class Jobs:
    """The records of every tenant's jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def create(self, tenant: str, kind: JobKind, requested_by: str, state: JobState = JobState.WAITING) -> Job:
        """A new job; durable when it returns."""
        job = Job(id=str(uuid.uuid4()), kind=kind, state=state, requested_by=requested_by, requested_at=now())
        self.save(tenant, job)
        return job

    def save(self, tenant: str, job: Job) -> None:
        """Write the record of a job as a whole."""
        self._ledger.put(_key(tenant, job.id), job.model_dump(mode="json"))

    def load(self, tenant: str, job_id: str, kind: JobKind | None = None) -> Job:
        """A job, of a kind if one is named.

        Raises:
            NotFound: there is no such job.
        """
        try:
            uuid.UUID(job_id)  # it comes from a URL and becomes part of a key
            job = Job.model_validate(self._ledger.get(_key(tenant, job_id)))
        except (NotFound, ValueError):
            raise NotFound(f"there is no job {job_id!r}") from None
        if kind is not None and job.kind is not kind:
            raise NotFound(f"there is no {kind} {job_id!r}")
        return job

    def all(self, tenant: str, kind: JobKind) -> list[Job]:
        """A tenant's jobs of a kind, the latest first."""
        found = [job for _, job in self._records(f"jobs/{tenant}/") if job.kind is kind]
        return sorted(found, key=lambda job: job.requested_at, reverse=True)

    def untouched(self, lease: timedelta) -> Iterator[tuple[str, str]]:
        """The jobs that wait or run without a worker for the length of a lease: tenant and id of each."""
        for tenant, job in self._records("jobs/"):
            due = job.state in (JobState.WAITING, JobState.RUNNING)
            if due and (job.touched_at or job.requested_at) <= now() - lease:
                yield tenant, job.id

    def delete(self, tenant: str, job_id: str) -> None:
        """Delete the record; a worker that is at it stops."""
        self._ledger.delete(_key(tenant, job_id))

    def exists(self, tenant: str, job_id: str) -> bool:
        """Whether the record is there."""
        return self._ledger.exists(_key(tenant, job_id))

    def _records(self, prefix: str) -> Iterator[tuple[str, Job]]:
        for key in self._ledger.list(prefix):
            try:
                yield key.split("/")[1], Job.model_validate(self._ledger.get(key))
            except NotFound:
                continue  # deleted at this moment


@dataclass(frozen=True)
class RunJob:
    """The use case: does a job that waits.

    Attributes:
        lease: how long a job that was touched is left to the worker that touched it.
        kinds: what does a job of each kind.
    """

    jobs: Jobs
    lease: timedelta
    kinds: Mapping[JobKind, Work]

    def __call__(self, tenant: str, job_id: str) -> None:
        """Do the job to its end, unless it is gone, done, or in other hands.

        Raises:
            Unavailable: a part does not answer; the job is enqueued again.
        """
        try:
            job = self.jobs.load(tenant, job_id)
        except NotFound:
            return
        held = job.touched_at is not None and job.touched_at > now() - self.lease
        if job.state not in (JobState.WAITING, JobState.RUNNING) or (job.state is JobState.RUNNING and held):
            return
        try:
            self._do(tenant, job, _Progress(self.jobs, tenant, job))
        except Stopped:
            log.info("job stopped: it was deleted", extra={"tenant": tenant})

    def _do(self, tenant: str, job: Job, progress: "_Progress") -> None:
        try:
            progress("begun", 0, 0)
            with progress.kept_touched(self.lease / 4):
                self.kinds[job.kind](tenant, job, progress)
            progress.end(JobState.DONE)
        except (Stopped, Unavailable):
            raise
        except VisualMemoryError as error:
            progress.end(JobState.FAILED, error.message)
        except Exception as error:
            log.exception("job failed", extra={"tenant": tenant})
            progress.end(JobState.FAILED, f"{type(error).__name__}: see the worker's log")


class _Progress:
    """Writes how far a job is, not more often than needed; for many threads."""

    def __init__(self, jobs: Jobs, tenant: str, job: Job) -> None:
        self._jobs, self._tenant, self._job = jobs, tenant, job
        self._writing = threading.Lock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        with self._writing:
            before, moment = self._job, now()
            self._job = before.model_copy(update={"stage": stage, "done": done, "total": total})
        due = before.touched_at is None or moment - before.touched_at >= timedelta(seconds=TOUCH_SECONDS)
        if due or before.stage != stage:
            self._write({"state": JobState.RUNNING, "touched_at": moment})

    def end(self, state: JobState, error: str | None = None) -> None:
        total = self._job.total
        done = total if state is JobState.DONE else self._job.done
        self._write({"state": state, "touched_at": now(), "error": error, "done": done, "stage": ""})

    @contextmanager
    def kept_touched(self, pause: timedelta) -> Iterator[None]:
        """Say again and again that the job is worked on, for a single step of it may take longer than the lease."""
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(max(TOUCH_SECONDS, pause.total_seconds())):
                with suppress(Stopped, Unavailable):  # the work itself will find out
                    self._write({"touched_at": now()})

        toucher = threading.Thread(target=touch, name="toucher", daemon=True)
        toucher.start()
        try:
            yield
        finally:
            ended.set()
            toucher.join()

    def _write(self, told: dict[str, object]) -> None:
        with self._writing:
            if not self._jobs.exists(self._tenant, self._job.id):
                raise Stopped
            self._job = self._job.model_copy(update=told)
            self._jobs.save(self._tenant, self._job)


@dataclass(frozen=True)
class SweepJobs:
    """Enqueues again jobs whose message was lost, or whose worker died.

    Attributes:
        lease: as in `RunJob`.
    """

    jobs: Jobs
    task_queue: TaskQueue
    lease: timedelta

    def __call__(self) -> int:
        """Enqueue each that nobody works on; returns how many that were."""
        return sum(self.task_queue.enqueue_job(tenant, job_id) for tenant, job_id in self.jobs.untouched(self.lease))


def _key(tenant: str, job_id: str) -> str:
    return f"jobs/{tenant}/{job_id}"
