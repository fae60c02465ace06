"""The records of evaluations: the request, the state, and the report.

An evaluation exists as long as its job. Queries and reports are files, which count once a row names them. A worker
whose job was deleted, or taken over by another worker, gets no row for its report and deletes the file. Files that a
crash leaves without a row are never shown, and are removed as orphans.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from visual_memory.schemas.background_job import OPEN, Job, JobKind, JobState
from visual_memory.schemas.errors import Conflict, InvalidRequest, NotFound
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest, EvaluationSummary
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.services.evaluation.evaluation_files import EvaluationFiles, query_key, report_key
from visual_memory.services.evaluation.evaluation_queries import EvaluationQueries, missing_evaluation, not_collecting
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.tables import evaluation_pictures, evaluations, jobs
from visual_memory.services.infrastructure.task_queue.job_records import Jobs, OwnedJob, Stopped
from visual_memory.services.removal.covered_image_records import CoveredImages
from visual_memory.services.removal.values_named_in_filters import named_values

LIST = LatestFirst(ListCursors("evaluations", tuple[Moment, CursorText]), (jobs.c.requested_at, jobs.c.id))
KIND = JobKind.EVALUATION
KEPT = 20
"""How many evaluations of a tenant are kept; a further one replaces the oldest that is not open."""
MAX_OPEN = 2
"""Evaluations of a tenant that may wait or run at once."""
ABANDONED = timedelta(days=1)
"""How long an evaluation may wait for its pictures."""


class Registration(BaseModel):
    """The request, and the encoder whose vectors are compared."""

    model_config = ConfigDict(frozen=True)

    request: EvaluationRequest
    encoder: str


class Evaluations:
    """The evaluations of every tenant.

    Args:
        jobs: the jobs that run them.
        url: where files are stored.
        floor: bytes that must stay free on this machine's disk; see `services.infrastructure.storage.disk_space`.

    Attributes:
        queries: the labelled queries.
    """

    def __init__(self, jobs: Jobs, url: str | Path, floor: int = 0) -> None:
        self._jobs = jobs
        self._database = jobs.database
        self._files = EvaluationFiles(url, floor)
        self.queries = EvaluationQueries(self._database, self._files)

    def create(
        self,
        tenant: str,
        request: EvaluationRequest,
        encoder: str,
        requested_by: str,
        within: Within = nothing_else,
        *,
        may_delete: bool = True,
    ) -> EvaluationJob:
        """Create an evaluation, which collects pictures, or waits for a worker if the memory is its own queries.

        Args:
            tenant: whose.
            request: what to evaluate.
            encoder: whose vectors are compared.
            requested_by: the caller's name.
            within: what else to write in the same transaction.
            may_delete: it may replace the evaluations of other callers too.

        Raises:
            Conflict: it would wait for a worker, and too many do.
        """
        state = JobState.WAITING if request.itself else JobState.COLLECTING
        with self._database.write() as connection:
            self._database.serial(connection, f"jobs:{tenant}")
            present = self._jobs.all_within(connection, tenant, [KIND])
            if request.itself:
                _check_open(present)
            deletable = [job for job in reversed(present) if may_delete or job.requested_by == requested_by]
            ended = [job.id for job in deletable if job.state not in OPEN]
            replaced = ended[: max(0, len(present) + 1 - KEPT)]
            self._jobs.delete_within(connection, tenant, replaced)
            job = self._jobs.create_within(connection, tenant, KIND, requested_by, state)
            row = {"job": job.id, "tenant": tenant, "encoder": encoder, "request": request.model_dump_json()}
            connection.execute(insert(evaluations).values(row))
            within(connection, job.id)
        for each in replaced:
            self._files.delete_evaluation(tenant, each)
        return EvaluationJob(**dict(job), request=request)

    def start(self, tenant: str, evaluation_id: str, within: Within = nothing_else) -> None:
        """Let an evaluation wait for a worker; one that was started already is not changed.

        Raises:
            Conflict: too many wait or run.
        """
        with self._database.write() as connection:
            self._database.serial(connection, f"jobs:{tenant}")
            present = self._jobs.all_within(connection, tenant, [KIND], OPEN)
            if self._jobs.start(connection, tenant, evaluation_id):
                _check_open(present)
            within(connection, evaluation_id)

    def load(self, tenant: str, evaluation_id: str) -> EvaluationJob:
        """Load an evaluation.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute(_select(tenant).where(jobs.c.id == evaluation_id)).first()
        if row is None:
            raise missing_evaluation(evaluation_id)
        return _evaluation(row)

    def registration(self, tenant: str, evaluation_id: str) -> Registration:
        """Load the request of an evaluation.

        Raises:
            NotFound: there is no such evaluation.
        """
        query = select(evaluations).where(evaluations.c.tenant == tenant, evaluations.c.job == evaluation_id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise missing_evaluation(evaluation_id)
        return Registration(request=EvaluationRequest.model_validate_json(row.request), encoder=row.encoder)

    def latest(self, tenant: str, asked: PageRequest = FIRST_PAGE) -> Page[EvaluationJob]:
        """A page of a tenant's evaluations, the latest first.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        with self._database.read() as connection:
            return LIST.page(connection, _select(tenant), asked, _evaluation)

    def collecting(self, tenant: str, evaluation_id: str) -> EvaluationJob:
        """Load an evaluation that accepts pictures.

        Raises:
            NotFound: there is no such evaluation.
            InvalidRequest: it accepts none.
        """
        found = self.load(tenant, evaluation_id)
        if found.request.itself:
            raise InvalidRequest("this evaluation classifies the memory's own images: begin another one for pictures")
        if found.state is not JobState.COLLECTING:
            raise not_collecting(found.state)
        return found

    def put_report(self, owned: OwnedJob, summary: EvaluationSummary, report: bytes) -> None:
        """Store the report, a zip file.

        Raises:
            Stopped: the evaluation was deleted, or another worker took it over.
        """
        name = f"report-{owned.token}.zip"
        key = report_key(owned.tenant, owned.id, name)
        try:
            self._files.write(key, report)
            with self._database.write() as connection:
                self._jobs.check(connection, owned)
                ours = evaluations.c.job == owned.id
                values = {"summary": summary.model_dump_json(), "report": name}
                connection.execute(update(evaluations).where(ours).values(values))
        except (NotFound, Stopped):
            self._files.delete(key)
            raise Stopped(owned.id) from None

    def has_report(self, tenant: str, evaluation_id: str) -> bool:
        """Whether the complete report is stored."""
        return self._report_name(tenant, evaluation_id) is not None

    def report(self, tenant: str, evaluation_id: str) -> bytes:
        """The report, a zip file.

        Raises:
            NotFound: there is no such evaluation, or it is not done.
        """
        state, name = self.load(tenant, evaluation_id).state, self._report_name(tenant, evaluation_id)
        if state is not JobState.DONE or name is None:
            raise NotFound(f"evaluation {evaluation_id!r} has no report: it is {state}")
        return self._files.read(report_key(tenant, evaluation_id, name))

    def delete(self, tenant: str, evaluation_id: str, within: Within = nothing_else) -> int:
        """Delete an evaluation with its files; a worker that runs it stops. Returns the number of files."""
        self._jobs.delete(tenant, evaluation_id, within)
        return self._files.delete_evaluation(tenant, evaluation_id)

    def cancel(self, tenant: str, evaluation_id: str, cancelled_by: str, within: Within = nothing_else) -> None:
        """Cancel an evaluation, and delete what it collected and computed; a worker that runs it stops.

        Raises:
            NotFound: there is none.
            Conflict: it has ended.
        """

        def delete_rows(connection: Connection, job_id: str) -> None:
            connection.execute(delete(evaluation_pictures).where(evaluation_pictures.c.job == job_id))
            ours = update(evaluations).where(evaluations.c.job == job_id)
            connection.execute(ours.values(summary=None, report=None))
            within(connection, job_id)

        self._jobs.cancel(tenant, evaluation_id, cancelled_by, delete_rows)
        self._files.delete_evaluation(tenant, evaluation_id)

    def remove_covered(self, tenant: str, covered: CoveredImages) -> None:
        """Removal hook: delete all of a tenant's evaluations, because removed images were part of them.

        If no image was removed, delete only those whose filter contains a value of the removal's filter.
        """
        if covered:
            self._jobs.delete_all(tenant, KIND)
            self._files.delete_tenant(tenant)
            return
        for each in self.covered(tenant, covered.filter, any_image=False):
            self.delete(tenant, each.id)

    def covered(self, tenant: str, condition: Filter, *, any_image: bool) -> list[EvaluationJob]:
        """The evaluations that a removal with a filter deletes.

        Args:
            tenant: the tenant.
            condition: the filter of the removal.
            any_image: whether it removes any image.
        """
        names = named_values(condition)
        return [each for each in self._all(tenant) if any_image or names & named_values(each.request.filter)]

    def delete_orphans(self, before: datetime, _since: datetime | None = None) -> int:
        """Delete orphan files, and evaluations that were abandoned before their pictures were complete.

        Args:
            before: files that were written before this moment and that no row names are orphans.

        Returns:
            the number of deleted files.
        """
        deleted = sum(self.delete(*each) for each in self._abandoned()) + self._files.delete_temporary_files(before)
        for keys in self._files.chunks():
            named = self._named_files({key.split("/")[1] for key in keys})
            deleted += self._files.delete_older([key for key in keys if key not in named], before)
        return deleted

    def _all(self, tenant: str) -> list[EvaluationJob]:
        with self._database.read() as connection:
            return [*map(_evaluation, connection.execute(_select(tenant)))]

    def _abandoned(self) -> list[tuple[str, str]]:
        query = select(jobs.c.tenant, jobs.c.id).where(jobs.c.kind == KIND, jobs.c.state == JobState.COLLECTING)
        with self._database.read() as connection:
            moment = self._database.moment(connection)
            found = connection.execute(query.where(jobs.c.requested_at <= moment - ABANDONED))
            return [(row.tenant, row.id) for row in found]

    def _named_files(self, evaluation_ids: Collection[str]) -> set[str]:
        """The keys of all files that rows of some evaluations name."""
        sent = select(evaluations.c.tenant, evaluation_pictures).join(evaluation_pictures)
        with self._database.read() as connection:
            reports = connection.execute(select(evaluations).where(evaluations.c.job.in_(evaluation_ids)))
            named = {report_key(row.tenant, row.job, row.report or "") for row in reports}
            queries = connection.execute(sent.where(evaluation_pictures.c.job.in_(evaluation_ids)))
            return named | {query_key(row.tenant, row.job, row.file) for row in queries}

    def _report_name(self, tenant: str, evaluation_id: str) -> str | None:
        query = select(evaluations.c.report).where(evaluations.c.tenant == tenant, evaluations.c.job == evaluation_id)
        with self._database.read() as connection:
            name: str | None = connection.execute(query).scalar_one_or_none()
        return name


def _select(tenant: str) -> Select[Any]:
    """The rows that `_evaluation` takes."""
    sent = func.sum(evaluation_pictures.c.pictures)
    pictures = select(func.coalesce(sent, 0)).where(evaluation_pictures.c.job == jobs.c.id).scalar_subquery()
    query = select(jobs, evaluations.c.request, evaluations.c.summary, pictures.label("pictures")).join(evaluations)
    return query.where(jobs.c.tenant == tenant)


def _evaluation(row: Row[Any]) -> EvaluationJob:
    columns = row._mapping  # noqa: SLF001 - SQLAlchemy's documented access to columns by name
    is_done = columns["state"] == JobState.DONE and columns["summary"] is not None
    return EvaluationJob.model_validate(
        {name: columns[name] for name in Job.model_fields}
        | {
            "request": EvaluationRequest.model_validate_json(columns["request"]),
            "summary": EvaluationSummary.model_validate_json(columns["summary"]) if is_done else None,
            "pictures": columns["pictures"],
        }
    )


def _check_open(present: Collection[Job]) -> None:
    number = sum(job.state in OPEN for job in present)
    if number >= MAX_OPEN:
        raise Conflict(f"{number} evaluations wait or run already: start this one when one of them is done")
