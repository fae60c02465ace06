"""Jobs: their records, and how a worker does them.

Whoever deletes a job stops it at its next progress. A message says only that a tenant has jobs. A worker that takes a
job gets a token which nobody ever had, and whatever it writes about the job compares it (`Jobs.check`): so a worker
that stood still, and whose job was begun by another since, writes nothing more, and leaves no result. A worker that
dies leaves its job untouched, and the sweep enqueues the tenant again; the job then begins anew, so it must be harmless
when repeated.
"""

import logging
import secrets
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select, update

from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.errors import NotFound, Unavailable, VisualMemoryError
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.moment_is_over import CLOCKS_DIFFER
from visual_memory.services.infrastructure.records.same_transaction import Within, nothing_else
from visual_memory.services.infrastructure.records.tables import jobs

MAX_ATTEMPTS = 3
TOUCH_SECONDS = 1.0
"""How often progress is written at most."""
KEPT = 20
"""How many jobs of a kind that ended are kept of a tenant; the oldest go."""
KINDS = frozenset(JobKind)
STATES = frozenset(JobState)
OPEN = (JobState.WAITING, JobState.RUNNING)
ENDED = (JobState.DONE, JobState.FAILED)
TOLD_AT_ONCE = 1000

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Says how far a job is: the stage, how much of it is done, out of how much. Raises `Stopped` where it was deleted."""


class Stopped(Exception):
    """The job is not this worker's any more: it is gone, or another worker has begun it since."""


@dataclass(frozen=True)
class OwnedJob:
    """A job that a worker has begun.

    Attributes:
        jobs: where it is recorded.
        token: tells this worker from all others that begin it; see `Jobs.check`.
    """

    jobs: "Jobs"
    tenant: str
    job: Job
    token: str

    @property
    def id(self) -> str:
        """The job's."""
        return self.job.id

    def check(self, connection: Connection) -> None:
        """Let a transaction be this worker's, or be undone.

        Raises:
            Stopped: the job is another's by now, or gone.
        """
        self.jobs.check(connection, self)


Work = Callable[[OwnedJob, Progress], None]
"""Does a job of a tenant."""


class Jobs:
    """The records of every tenant's jobs.

    What ends with ``_within`` is part of a transaction.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._passed_over: set[str] = set()

    def create(self, tenant: str, kind: JobKind, requested_by: str, state: JobState = JobState.WAITING) -> Job:
        """A new job; durable when it returns."""
        with self.database.write() as connection:
            return self.create_within(connection, tenant, kind, requested_by, state)

    def create_within(
        self,
        connection: Connection,
        tenant: str,
        kind: JobKind,
        requested_by: str,
        state: JobState = JobState.WAITING,
    ) -> Job:
        """A new job."""
        moment = self.database.moment(connection)
        job = Job(id=str(uuid.uuid4()), kind=kind, state=state, requested_by=requested_by, requested_at=moment)
        connection.execute(insert(jobs).values(tenant=tenant, **dict(job)))
        return job

    def find_or_create(
        self, tenant: str, kind: JobKind, requested_by: str, within: Within = nothing_else
    ) -> tuple[Job, bool]:
        """The job of a kind that waits or runs, else a new one; and whether it is new. So there is one at a time."""
        with self.database.write() as connection:
            self.database.serial(connection, f"jobs:{tenant}")
            found = self.all_within(connection, tenant, [kind], OPEN)
            job = found[0] if found else self.create_within(connection, tenant, kind, requested_by)
            within(connection, job.id)
        return job, not found

    def load(self, tenant: str, job_id: str, kind: JobKind | None = None) -> Job:
        """A job, of a kind if one is named.

        Raises:
            NotFound: there is no such job.
        """
        with self.database.read() as connection:
            return self.load_within(connection, tenant, job_id, kind)

    def load_within(self, connection: Connection, tenant: str, job_id: str, kind: JobKind | None = None) -> Job:
        """A job, as `load` does it."""
        ours = (jobs.c.tenant == tenant) & (jobs.c.id == job_id) & _known()
        found = connection.execute(select(jobs).where(ours)).first()
        if found is None:
            raise NotFound(f"there is no job {job_id!r}")
        if kind is not None and found.kind != kind:
            raise NotFound(f"there is no {kind} {job_id!r}")
        return _job(found)

    def all(self, tenant: str, *kinds: JobKind) -> list[Job]:
        """A tenant's jobs of some kinds, the latest first."""
        with self.database.read() as connection:
            return self.all_within(connection, tenant, kinds)

    def all_within(
        self,
        connection: Connection,
        tenant: str,
        kinds: Collection[JobKind],
        states: Collection[JobState] = tuple(JobState),
    ) -> list[Job]:
        """The same, of some states."""
        found = connection.execute(
            select(jobs)
            .where(jobs.c.tenant == tenant, jobs.c.kind.in_(kinds), jobs.c.state.in_(states))
            .order_by(jobs.c.requested_at.desc(), jobs.c.id)
        )
        return [_job(row) for row in found]

    def has_open(self, tenant: str) -> bool:
        """Whether a tenant has jobs that wait or run."""
        query = select(jobs.c.id).where(jobs.c.tenant == tenant, _is_open()).limit(1)
        with self.database.read() as connection:
            return connection.execute(query).first() is not None

    def start(self, connection: Connection, tenant: str, job_id: str) -> bool:
        """Let a job that collects wait for a worker; False where it does not collect."""
        ours = (jobs.c.tenant == tenant) & (jobs.c.id == job_id) & (jobs.c.state == JobState.COLLECTING)
        return connection.execute(update(jobs).where(ours).values(state=JobState.WAITING)).rowcount == 1

    def overdue(self, lease: timedelta) -> set[str]:
        """The tenants that have jobs which were left alone for the length of a lease, and none that is being done."""
        with self.database.read() as connection:
            moment = self.database.moment(connection)
            left = _is_left(moment, lease)
            due = set(connection.execute(select(jobs.c.tenant).where(_is_open(), left).distinct()).scalars())
            running = and_(jobs.c.state == JobState.RUNNING, jobs.c.kind.in_(KINDS), ~left)
            held = set(connection.execute(select(jobs.c.tenant).where(running).distinct()).scalars())
            unknown = connection.execute(select(jobs.c.id).where(~_known()).limit(TOLD_AT_ONCE)).scalars().all()
        self._pass_over(unknown)
        return due - held

    def take(self, tenant: str, lease: timedelta) -> OwnedJob | None:
        """Begin the job of a tenant that was left alone the longest; an attempt more, as its worker may die of it.

        Returns:
            None where there is none, or another worker does one of the tenant's.
        """
        with self.database.write() as connection:
            self.database.serial(connection, f"jobs:{tenant}")
            moment = self.database.moment(connection)
            theirs = (jobs.c.tenant == tenant) & _is_open()
            held = theirs & (jobs.c.state == JobState.RUNNING) & ~_is_left(moment, lease)
            if connection.execute(select(jobs.c.id).where(held).limit(1)).first():
                return None
            alone = func.coalesce(jobs.c.touched_at, jobs.c.requested_at)
            found = connection.execute(select(jobs).where(theirs).order_by(alone, jobs.c.id).limit(1)).first()
            if found is None:
                return None
            begun: dict[str, Any] = {"state": JobState.RUNNING, "stage": "begun", "done": 0, "total": 0}
            begun |= {"touched_at": moment, "attempts": found.attempts + 1}
            owned = OwnedJob(self, tenant, _job(found).model_copy(update=begun), secrets.token_hex(16))
            connection.execute(update(jobs).where(jobs.c.id == found.id).values(token=owned.token, **begun))
        return owned

    def check(self, connection: Connection, owned: OwnedJob, **told: object) -> None:
        """Say as part of a transaction that a job is worked on, which then is this worker's, or is undone.

        Raises:
            Stopped: it is another's by now, or gone.
        """
        ours = (jobs.c.id == owned.id) & (jobs.c.tenant == owned.tenant) & (jobs.c.token == owned.token)
        values = {"touched_at": self.database.moment(connection), **told}
        if connection.execute(update(jobs).where(ours).values(**values)).rowcount != 1:
            raise Stopped(owned.id)

    def tell(self, owned: OwnedJob, **told: object) -> None:
        """Write how far a job is.

        Raises:
            Stopped: as `check` does.
        """
        with self.database.write() as connection:
            self.check(connection, owned, **told)

    def end(self, owned: OwnedJob, state: JobState, error: str | None = None, **further: object) -> None:
        """End a job; of those of its kind that ended, the oldest beyond `KEPT` go, but for evaluations, see there.

        Raises:
            Stopped: as `check` does.
        """
        told: dict[str, object] = {"state": state, "error": error, "stage": "", "token": None, **further}
        if state is JobState.DONE:
            told["done"] = jobs.c.total
        with self.database.write(urgent=True) as connection:
            self.check(connection, owned, **told)
            if owned.job.kind is JobKind.EVALUATION:  # who asks for one says which may go
                return
            theirs = (jobs.c.tenant == owned.tenant) & (jobs.c.kind == owned.job.kind) & jobs.c.state.in_(ENDED)
            old = select(jobs.c.id).where(theirs).order_by(jobs.c.requested_at.desc()).offset(KEPT).limit(KEPT)
            connection.execute(delete(jobs).where(jobs.c.id.in_(connection.execute(old).scalars().all())))

    def give_back(self, owned: OwnedJob) -> None:
        """Take the attempt back, for it ended by what is no fault of the job's."""
        with self.database.write(urgent=True) as connection:
            self.check(connection, owned, attempts=jobs.c.attempts - 1)

    def delete(self, tenant: str, job_id: str, within: Within = nothing_else) -> None:
        """Delete a job with its question or evaluation; a worker that is at it stops."""
        with self.database.write(urgent=True) as connection:
            self.delete_within(connection, tenant, [job_id])
            within(connection, job_id)

    def delete_within(self, connection: Connection, tenant: str, job_ids: Collection[str]) -> None:
        """Delete jobs."""
        connection.execute(delete(jobs).where(jobs.c.tenant == tenant, jobs.c.id.in_(job_ids)))

    def delete_all(self, tenant: str, *kinds: JobKind) -> list[str]:
        """Delete a tenant's jobs of some kinds; returns their ids."""
        theirs = (jobs.c.tenant == tenant) & jobs.c.kind.in_(kinds)
        with self.database.write(urgent=True) as connection:
            return [*connection.execute(delete(jobs).where(theirs).returning(jobs.c.id)).scalars()]

    def _pass_over(self, unknown: Iterable[str]) -> None:
        """Count what a newer version wrote, and log it once."""
        for job_id in unknown:
            prometheus_metrics.PASSED_OVER.labels("unknown kind").inc()
            if job_id not in self._passed_over:
                self._passed_over.add(job_id)
                log.error("the job %s is passed over: unknown kind (a newer version wrote it)", job_id)


def _known() -> ColumnElement[bool]:
    return jobs.c.kind.in_(KINDS) & jobs.c.state.in_(STATES)


def _is_open() -> ColumnElement[bool]:
    return jobs.c.state.in_(OPEN) & jobs.c.kind.in_(KINDS)


def _is_left(moment: datetime, lease: timedelta) -> ColumnElement[bool]:
    """Whether nobody worked on it for the length of a lease, or last at a moment that cannot have been yet."""
    alone = func.coalesce(jobs.c.touched_at, jobs.c.requested_at)
    return or_(alone <= moment - lease, alone > moment + CLOCKS_DIFFER)


def _job(row: Row[Any]) -> Job:
    held = row._mapping  # noqa: SLF001 - the documented way to a row's columns by name
    return Job.model_validate({name: held[name] for name in Job.model_fields})


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
        owned = self.jobs.take(tenant, self.lease)
        if owned is None:
            return
        try:
            self._do(owned)
        except Stopped:
            log.info("job stopped: it was deleted, or another worker has begun it", extra={"tenant": tenant})
        if self.jobs.has_open(tenant):
            self.enqueue(tenant)

    def _do(self, owned: OwnedJob) -> None:
        if owned.job.attempts > MAX_ATTEMPTS:
            gave_up = f"gave up after {MAX_ATTEMPTS} attempts, during each of which its worker ended"
            self.jobs.end(owned, JobState.FAILED, gave_up, attempts=MAX_ATTEMPTS)
            return
        try:
            progress = _Progress(self.jobs, owned)
            with progress.kept_touched(self.lease / 4):
                self.kinds[owned.job.kind](owned, progress)
            self.jobs.end(owned, JobState.DONE)
        except Stopped:
            raise
        except Unavailable:
            with suppress(Stopped, Unavailable):
                self.jobs.give_back(owned)
            raise
        except VisualMemoryError as error:
            self.jobs.end(owned, JobState.FAILED, error.message)
        except Exception as error:
            log.exception("job failed", extra={"tenant": owned.tenant})
            self.jobs.end(owned, JobState.FAILED, f"{type(error).__name__}: see the worker's log")


class _Progress:
    """Writes how far a job is, not more often than needed; for many threads."""

    def __init__(self, jobs: Jobs, owned: OwnedJob) -> None:
        self._jobs, self._owned = jobs, owned
        self._told: dict[str, object] = {"stage": owned.job.stage}
        self._told_at = monotonic()
        self._telling = threading.Lock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        with self._telling:  # until it is written, or the toucher would write over it what was before
            same = self._told["stage"] == stage
            self._told = {"stage": stage, "done": done, "total": total}
            if same and monotonic() - self._told_at < TOUCH_SECONDS:
                return
            self._told_at = monotonic()
            self._jobs.tell(self._owned, **self._told)

    @contextmanager
    def kept_touched(self, pause: timedelta) -> Iterator[None]:
        """Say again and again that the job is worked on, for a single step of it may take longer than the lease."""
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(max(TOUCH_SECONDS, pause.total_seconds())):
                with suppress(Stopped, VisualMemoryError), self._telling:  # the work itself will find out
                    self._jobs.tell(self._owned, **self._told)

        toucher = threading.Thread(target=touch, name="toucher", daemon=True)
        toucher.start()
        try:
            yield
        finally:
            ended.set()
            toucher.join()


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
