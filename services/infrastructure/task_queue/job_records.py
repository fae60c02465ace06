"""The records of jobs: state, progress, attempts, and the worker that runs each.

A worker that begins a job gets a unique fencing token, which every write about the job compares (`Jobs.check`). So a
worker that was suspended, and whose job another worker has begun since, can write nothing more.
"""

import logging
import secrets
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select, update

from visual_memory.schemas.background_job import ENDED, OPEN, Job, JobKind, JobState
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER
from visual_memory.services.infrastructure.records.database import Database, Within, nothing_else
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.tables import jobs

KEPT = 20
"""How many ended jobs of a kind are stored of a tenant; the oldest are deleted."""
KINDS = frozenset(JobKind)
STATES = frozenset(JobState)
LIST = LatestFirst(ListCursors("jobs", tuple[Moment, CursorText]), (jobs.c.requested_at, jobs.c.id))
UNKNOWN_AT_ONCE = 1000
"""How many jobs of unknown kinds are reported at once."""

log = logging.getLogger(__name__)


class Stopped(Exception):
    """This worker has lost its job: it was deleted or cancelled, or another worker has begun it since."""


@dataclass(frozen=True)
class OwnedJob:
    """A job that a worker has begun.

    Attributes:
        jobs: the records that it belongs to.
        token: the fencing token of this worker; see `Jobs.check`.
    """

    jobs: "Jobs"
    tenant: str
    job: Job
    token: str

    @property
    def id(self) -> str:
        """The id of the job."""
        return self.job.id

    def check(self, connection: Connection) -> None:
        """Make sure that the job is still this worker's, as part of a transaction.

        Raises:
            Stopped: as in `Jobs.check`; the transaction is rolled back.
        """
        self.jobs.check(connection, self)


class Jobs:
    """The records of the jobs of all tenants.

    Methods that end with ``_within`` are part of a transaction of the caller.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._passed_over: set[str] = set()

    def create(self, tenant: str, kind: JobKind, requested_by: str, state: JobState = JobState.WAITING) -> Job:
        """Create a job; durable when it returns."""
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
        """Create a job."""
        moment = self.database.moment(connection)
        job = Job(id=str(uuid.uuid4()), kind=kind, state=state, requested_by=requested_by, requested_at=moment)
        connection.execute(insert(jobs).values(tenant=tenant, **dict(job)))
        return job

    def find_or_create(
        self, tenant: str, kind: JobKind, requested_by: str, within: Within = nothing_else
    ) -> tuple[Job, bool]:
        """The waiting or running job of a kind, or else a new one, and whether it is new: there is one at a time."""
        with self.database.write() as connection:
            self.database.serial(connection, f"jobs:{tenant}")
            found = self.all_within(connection, tenant, [kind], OPEN)
            job = found[0] if found else self.create_within(connection, tenant, kind, requested_by)
            within(connection, job.id)
        return job, not found

    def load(self, tenant: str, job_id: str, kind: JobKind | None = None) -> Job:
        """Load a job.

        Raises:
            NotFound: there is no such job, or it is of another kind.
        """
        with self.database.read() as connection:
            return self.load_within(connection, tenant, job_id, kind)

    def load_within(self, connection: Connection, tenant: str, job_id: str, kind: JobKind | None = None) -> Job:
        """Load a job, as `load` does."""
        ours = (jobs.c.tenant == tenant) & (jobs.c.id == job_id) & _known()
        found = connection.execute(select(jobs).where(ours)).first()
        if found is None:
            raise NotFound(f"there is no job {job_id!r}")
        if kind is not None and found.kind != kind:
            raise NotFound(f"there is no {kind} {job_id!r}")
        return _job(found)

    def all(self, tenant: str, *kinds: JobKind) -> list[Job]:
        """The jobs of a tenant of some kinds, the latest first."""
        with self.database.read() as connection:
            return self.all_within(connection, tenant, kinds)

    def all_within(
        self,
        connection: Connection,
        tenant: str,
        kinds: Collection[JobKind],
        states: Collection[JobState] = tuple(JobState),
    ) -> list[Job]:
        """The same, in some states."""
        found = connection.execute(
            select(jobs)
            .where(jobs.c.tenant == tenant, jobs.c.kind.in_(kinds), jobs.c.state.in_(states))
            .order_by(jobs.c.requested_at.desc(), jobs.c.id)
        )
        return [_job(row) for row in found]

    def page(
        self,
        tenant: str,
        kinds: Collection[JobKind],
        states: Collection[JobState] = tuple(JobState),
        asked: PageRequest = FIRST_PAGE,
    ) -> Page[Job]:
        """A page of a tenant's jobs of some kinds in some states, the latest first.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        theirs = (jobs.c.tenant == tenant) & jobs.c.kind.in_(kinds) & jobs.c.state.in_(states)
        with self.database.read() as connection:
            return LIST.page(connection, select(jobs).where(theirs), asked, _job)

    def has_open(self, tenant: str) -> bool:
        """Whether a tenant has waiting or running jobs."""
        query = select(jobs.c.id).where(jobs.c.tenant == tenant, _is_open()).limit(1)
        with self.database.read() as connection:
            return connection.execute(query).first() is not None

    def start(self, connection: Connection, tenant: str, job_id: str) -> bool:
        """Change a collecting job to waiting; False if it is not collecting."""
        ours = (jobs.c.tenant == tenant) & (jobs.c.id == job_id) & (jobs.c.state == JobState.COLLECTING)
        return connection.execute(update(jobs).where(ours).values(state=JobState.WAITING)).rowcount == 1

    def overdue(self, lease: timedelta) -> set[str]:
        """The tenants with open jobs that no worker has touched for the length of a lease, and with none that runs."""
        with self.database.read() as connection:
            moment = self.database.moment(connection)
            left = _is_left(moment, lease)
            due = set(connection.execute(select(jobs.c.tenant).where(_is_open(), left).distinct()).scalars())
            running = and_(jobs.c.state == JobState.RUNNING, jobs.c.kind.in_(KINDS), ~left)
            held = set(connection.execute(select(jobs.c.tenant).where(running).distinct()).scalars())
            unknown = connection.execute(select(jobs.c.id).where(~_known()).limit(UNKNOWN_AT_ONCE)).scalars().all()
        self._pass_over(unknown)
        return due - held

    def begin_next(self, tenant: str, lease: timedelta) -> OwnedJob | None:
        """Begin the open job of a tenant that waited longest; counts an attempt, because its worker may crash on it.

        Returns:
            None if there is none, or another worker runs a job of the tenant.
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

    def check(self, connection: Connection, owned: OwnedJob, **values: object) -> None:
        """Renew the heartbeat of a job, and write some columns of it, as part of a transaction.

        Raises:
            Stopped: another worker has begun the job, or it was deleted or cancelled; the transaction is rolled back.
        """
        ours = (jobs.c.id == owned.id) & (jobs.c.tenant == owned.tenant) & (jobs.c.token == owned.token)
        values = {"touched_at": self.database.moment(connection), **values}
        if connection.execute(update(jobs).where(ours).values(**values)).rowcount != 1:
            raise Stopped(owned.id)

    def write_progress(self, owned: OwnedJob, **progress: object) -> None:
        """Write the progress of a job.

        Raises:
            Stopped: as in `check`.
        """
        with self.database.write() as connection:
            self.check(connection, owned, **progress)

    def end(self, owned: OwnedJob, state: JobState, error: str | None = None, **further: object) -> None:
        """End a job, and delete the oldest ended ones of its kind beyond `KEPT`, except evaluations.

        Raises:
            Stopped: as in `check`.
        """
        values: dict[str, object] = {"state": state, "error": error, "stage": "", "token": None, **further}
        if state is JobState.DONE:
            values["done"] = jobs.c.total
        with self.database.write(urgent=True) as connection:
            self.check(connection, owned, **values)
            _delete_old(connection, owned.tenant, owned.job.kind)

    def cancel(self, tenant: str, job_id: str, cancelled_by: str, within: Within = nothing_else) -> Job:
        """Cancel a job: a waiting one never begins, a worker that runs it stops at its next heartbeat.

        A job that was cancelled already is not changed.

        Args:
            tenant: whose job.
            job_id: its id.
            cancelled_by: who asked for it, as the API knows them.
            within: what else to write in the same transaction.

        Raises:
            NotFound: there is no such job.
            Conflict: it has ended.
        """
        with self.database.write(urgent=True) as connection:
            ours = (jobs.c.tenant == tenant) & (jobs.c.id == job_id) & _known() & jobs.c.state.not_in(ENDED)
            moment = self.database.moment(connection)
            values = {"state": JobState.CANCELLED, "cancelled_by": cancelled_by, "touched_at": moment}
            ended = connection.execute(update(jobs).where(ours).values(**values, stage="", token=None)).rowcount
            found = self.load_within(connection, tenant, job_id)
            if found.state is not JobState.CANCELLED:
                raise Conflict(f"job {job_id!r} is {found.state}: only a job that has not ended can be cancelled")
            if ended:
                within(connection, job_id)
                _delete_old(connection, tenant, found.kind)
        return found

    def undo_attempt(self, owned: OwnedJob) -> None:
        """Do not count the attempt, because it failed for a reason outside of the job."""
        with self.database.write(urgent=True) as connection:
            self.check(connection, owned, attempts=jobs.c.attempts - 1)

    def delete(self, tenant: str, job_id: str, within: Within = nothing_else) -> None:
        """Delete a job with its question or evaluation; a worker that runs it stops."""
        with self.database.write(urgent=True) as connection:
            self.delete_within(connection, tenant, [job_id])
            within(connection, job_id)

    def delete_within(self, connection: Connection, tenant: str, job_ids: Collection[str]) -> None:
        """Delete jobs."""
        connection.execute(delete(jobs).where(jobs.c.tenant == tenant, jobs.c.id.in_(job_ids)))

    def delete_all(self, tenant: str, *kinds: JobKind) -> list[str]:
        """Delete the jobs of a tenant of some kinds; returns their ids."""
        theirs = (jobs.c.tenant == tenant) & jobs.c.kind.in_(kinds)
        with self.database.write(urgent=True) as connection:
            return [*connection.execute(delete(jobs).where(theirs).returning(jobs.c.id)).scalars()]

    def _pass_over(self, unknown: Iterable[str]) -> None:
        """Count the jobs of unknown kinds, which a newer version wrote, and log each once."""
        for job_id in unknown:
            prometheus_metrics.PASSED_OVER.labels("unknown kind").inc()
            if job_id not in self._passed_over:
                self._passed_over.add(job_id)
                log.error("the job %s is passed over: unknown kind (a newer version wrote it)", job_id)


def _delete_old(connection: Connection, tenant: str, kind: JobKind) -> None:
    """Delete the oldest ended jobs of a kind beyond `KEPT`; `services.evaluation` deletes evaluations."""
    if kind is JobKind.EVALUATION:
        return
    theirs = (jobs.c.tenant == tenant) & (jobs.c.kind == kind) & jobs.c.state.in_(ENDED)
    old = select(jobs.c.id).where(theirs).order_by(jobs.c.requested_at.desc()).offset(KEPT).limit(KEPT)
    connection.execute(delete(jobs).where(jobs.c.id.in_(connection.execute(old).scalars().all())))


def _known() -> ColumnElement[bool]:
    return jobs.c.kind.in_(KINDS) & jobs.c.state.in_(STATES)


def _is_open() -> ColumnElement[bool]:
    return jobs.c.state.in_(OPEN) & jobs.c.kind.in_(KINDS)


def _is_left(moment: datetime, lease: timedelta) -> ColumnElement[bool]:
    """Whether the last heartbeat is older than a lease, or too far in the future."""
    alone = func.coalesce(jobs.c.touched_at, jobs.c.requested_at)
    return or_(alone <= moment - lease, alone > moment + CLOCKS_DIFFER)


def _job(row: Row[Any]) -> Job:
    held = row._mapping  # noqa: SLF001 - the documented way to a row's columns by name
    return Job.model_validate({name: held[name] for name in Job.model_fields})
