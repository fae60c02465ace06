"""Jobs: their records, and how a worker does them.

A job is a record under ``jobs/``; whoever deletes the record stops the job at its next progress. A message says only
that a tenant has jobs. A worker that dies leaves its job untouched, and the sweep enqueues the tenant again; the job
then begins anew, so it must be harmless when repeated.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from schemas.errors import NotFound, Unavailable, VisualMemoryError
from schemas.image import now
from schemas.job import Job, JobKind, JobState
from services.memory.ledger import Ledger
from services.runtime import logs, metrics
from services.runtime.moments import is_over

MAX_ATTEMPTS = 3
TOUCH_SECONDS = 1.0
"""How often progress is written at most."""
KINDS = frozenset(JobKind)
OPEN = (JobState.WAITING, JobState.RUNNING)
ENDED = (JobState.DONE, JobState.FAILED)

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Says how far a job is: the stage, how much of it is done, out of how much. Raises `Stopped` where it was deleted."""
Work = Callable[[str, Job, Progress], None]
"""Does a job of a tenant."""


class Stopped(Exception):
    """The job is not this worker's any more: its record is gone, or another worker has begun it since."""


class Jobs:
    """The records of every tenant's jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._passed_over: set[str] = set()
        self._ended: set[str] = set()

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

    def open(self, tenant: str) -> list[Job]:
        """A tenant's jobs that wait or run; first what was left alone the longest."""
        found = [job for _, job in self._records(f"jobs/{tenant}/") if job.state in OPEN]
        return sorted(found, key=lambda job: job.touched_at or job.requested_at)

    def overdue(self, lease: timedelta) -> set[str]:
        """The tenants that have jobs which were left alone for the length of a lease, and none that is being done.

        It is asked often, so jobs that were seen to have ended are not read again.
        """
        found: set[str] = set()
        held: set[str] = set()
        keys = self._ledger.list("jobs/")
        self._ended.intersection_update(keys)
        for tenant, job in self._read(key for key in keys if key not in self._ended):
            if job.state in OPEN and is_over(job.touched_at or job.requested_at, lease, now()):
                found.add(tenant)
            elif job.state is JobState.RUNNING:
                held.add(tenant)
            elif job.state in ENDED:
                self._ended.add(_key(tenant, job.id))
        return found - held

    def delete(self, tenant: str, job_id: str) -> None:
        """Delete the record; a worker that is at it stops."""
        self._ledger.delete(_key(tenant, job_id))

    def _records(self, prefix: str) -> Iterator[tuple[str, Job]]:
        return self._read(self._ledger.list(prefix))

    def _read(self, keys: Iterable[str]) -> Iterator[tuple[str, Job]]:
        """Tenant and job; what cannot be read is passed over, counted, and logged once."""
        for key in keys:
            try:
                record = self._ledger.get(key)
                if isinstance(record, dict) and record.get("kind") not in KINDS:
                    self._pass_over(key, "unknown kind", "a newer version wrote it")
                    continue
                job = Job.model_validate(record)
            except NotFound:
                continue  # deleted at this moment
            except (ValueError, RecursionError, Unavailable) as error:
                self._ledger.exists("jobs/any")  # raises where no record can be read
                self._pass_over(key, "unreadable", logs.kind(error))
                continue
            yield key.split("/")[1], job

    def _pass_over(self, key: str, reason: str, detail: str) -> None:
        metrics.PASSED_OVER.labels(reason).inc()
        if key not in self._passed_over:
            self._passed_over.add(key)
            log.error("the record %s is passed over: %s (%s)", key, reason, detail)


@dataclass(frozen=True)
class RunJobs:
    """The use case: does a tenant's jobs, one after the other, between those of other tenants.

    Attributes:
        lease: how long a job that was touched is left to the worker that touched it.
        kinds: what does a job of each kind.
        enqueue: tells the workers that a tenant has jobs; may fail quietly.
    """

    jobs: Jobs
    lease: timedelta
    kinds: Mapping[JobKind, Work]
    enqueue: Callable[[str], object]

    def __call__(self, tenant: str) -> None:
        """Do one job of a tenant, and enqueue the tenant again where it has more, behind the others that wait.

        While another worker does one of them nothing is done: that worker then goes on with the next.

        Raises:
            Unavailable: a part does not answer; the tenant is enqueued again by the sweep.
        """
        due = self.jobs.open(tenant)
        if not due or any(job.state is JobState.RUNNING and self._is_held(job) for job in due):
            return
        try:
            self._do(tenant, due[0], _Progress(self.jobs, tenant, due[0]))
        except Stopped:
            log.info("job stopped: it was deleted, or another worker has begun it", extra={"tenant": tenant})
        if self.jobs.open(tenant):
            self.enqueue(tenant)

    def _is_held(self, job: Job) -> bool:
        return job.touched_at is not None and not is_over(job.touched_at, self.lease, now())

    def _do(self, tenant: str, job: Job, progress: "_Progress") -> None:
        if job.attempts >= MAX_ATTEMPTS:
            progress.end(
                JobState.FAILED, f"gave up after {MAX_ATTEMPTS} attempts, during each of which its worker ended"
            )
            return
        try:
            progress.begin()
            with progress.kept_touched(self.lease / 4):
                self.kinds[job.kind](tenant, job, progress)
            progress.end(JobState.DONE)
        except Stopped:
            raise
        except Unavailable:
            progress.release()
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

    def begin(self) -> None:
        """Say that a worker begins it: one attempt more, as it may be what its worker dies of."""
        begun = {"state": JobState.RUNNING, "stage": "begun", "done": 0, "total": 0}
        self._write({**begun, "touched_at": now(), "attempts": self._job.attempts + 1})

    def release(self) -> None:
        """Take the attempt back, for it ended by what is no fault of the job's."""
        with suppress(Stopped, Unavailable):
            self._write({"attempts": self._job.attempts - 1})

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
            try:
                held = self._jobs.load(self._tenant, self._job.id)
            except NotFound:
                raise Stopped from None
            if held.attempts != self._job.attempts:
                raise Stopped
            self._job = self._job.model_copy(update=told)
            self._jobs.save(self._tenant, self._job)


@dataclass(frozen=True)
class SweepJobs:
    """Enqueues tenants again whose message was lost, or whose worker died.

    Attributes:
        lease: as in `RunJobs`.
        enqueue_again: tells the workers that tenants have jobs, where no message does; may fail quietly.
    """

    jobs: Jobs
    lease: timedelta
    enqueue_again: Callable[[Iterable[str]], object]

    def __call__(self) -> None:
        """Enqueue each tenant that has jobs on which nobody works."""
        self.enqueue_again(sorted(self.jobs.overdue(self.lease)))


def _key(tenant: str, job_id: str) -> str:
    return f"jobs/{tenant}/{job_id}"
