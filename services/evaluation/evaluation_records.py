"""The records of evaluations: what was asked, the labelled pictures that were sent for it, and the report.

An evaluation is there as long as its job. Pictures and reports are files, which count once a row names them: a worker
whose job is gone, or was begun by another since, gets no row for its report, and deletes the file. What a crash between
the two leaves is shown to nobody, and tidied.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Row, Select, delete, func, insert, select, update

from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.errors import Blocked, Conflict, InvalidRequest, NotFound
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest, EvaluationSummary
from visual_memory.schemas.image import now
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.records.tables import evaluation_pictures, evaluations, jobs
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.disk_space import NEW
from visual_memory.services.infrastructure.task_queue.job_records import OPEN, Jobs, OwnedJob, Stopped
from visual_memory.services.removal.covered_images import CoveredImages
from visual_memory.services.removal.values_named_in_filters import named_values

KIND = JobKind.EVALUATION
KEPT = 20
"""How many evaluations of a tenant are kept; the oldest that is not at work makes room for another."""
MAX_AT_WORK = 2
"""Evaluations of a tenant that wait or run."""
ABANDONED = timedelta(days=1)
"""How long an evaluation may wait for its pictures."""
AT_ONCE = 500


class Queries(BaseModel):
    """Labelled pictures that came in one request; they ask, and are never remembered.

    Attributes:
        ids: n image ids.
        labels: of each.
        vectors: float32 [n, dimension], as bytes row by row.
        thumbnails: a small JPEG of each.
    """

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    ids: list[str]
    labels: list[list[str]]
    vectors: bytes
    thumbnails: list[bytes]

    def rows(self) -> NDArray[np.float32]:
        """The vectors, float32 [n, dimension]."""
        return np.frombuffer(self.vectors, np.float32).reshape(len(self.ids), -1)


class Registration(BaseModel):
    """What was asked; `encoder` is the one whose vectors are to be compared."""

    model_config = ConfigDict(frozen=True)

    request: EvaluationRequest
    encoder: str


class Evaluations:
    """The evaluations of every tenant.

    Args:
        jobs: what does them.
        url: where files are kept.
        floor: bytes that must stay free on this machine's disk; see `services.infrastructure.storage.disk_space`.
    """

    def __init__(self, jobs: Jobs, url: str | Path, floor: int = 0) -> None:
        self._jobs = jobs
        self._database = jobs.database
        self._blobs = BlobStore(url, floor * NEW)

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
        """A new evaluation, which collects; of the memory against itself, one that waits for a worker.

        Args:
            tenant: whose.
            request: what is asked.
            encoder: whose vectors are to be compared.
            requested_by: who asks.
            within: what else there is to write.
            may_delete: it may take the place of others' evaluations, and not only of their own.

        Raises:
            Conflict: that one, and too many are at work.
        """
        state = JobState.WAITING if request.itself else JobState.COLLECTING
        with self._database.write() as connection:
            self._database.serial(connection, f"jobs:{tenant}")
            held = self._jobs.all_within(connection, tenant, [KIND])
            if request.itself:
                _check_work(held)
            own = [job for job in reversed(held) if may_delete or job.requested_by == requested_by]
            idle = [job.id for job in own if job.state not in OPEN]
            gone = idle[: max(0, len(held) + 1 - KEPT)]
            self._jobs.delete_within(connection, tenant, gone)
            job = self._jobs.create_within(connection, tenant, KIND, requested_by, state)
            row = {"job": job.id, "tenant": tenant, "encoder": encoder, "request": request.model_dump_json()}
            connection.execute(insert(evaluations).values(row))
            within(connection, job.id)
        for each in gone:
            self._delete_files(tenant, each)
        return EvaluationJob(**dict(job), request=request)

    def start(self, tenant: str, evaluation_id: str, within: Within = nothing_else) -> None:
        """Let it wait for a worker; one that does already, or is done, stays as it is.

        Raises:
            Conflict: too many are at work.
        """
        with self._database.write() as connection:
            self._database.serial(connection, f"jobs:{tenant}")
            held = self._jobs.all_within(connection, tenant, [KIND], OPEN)
            if self._jobs.start(connection, tenant, evaluation_id):
                _check_work(held)
            within(connection, evaluation_id)

    def load(self, tenant: str, evaluation_id: str) -> EvaluationJob:
        """An evaluation.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute(_select(tenant).where(jobs.c.id == evaluation_id)).first()
        if row is None:
            raise _missing(evaluation_id)
        return _evaluation(row)

    def registration(self, tenant: str, evaluation_id: str) -> Registration:
        """What was asked.

        Raises:
            NotFound: there is no such evaluation.
        """
        query = select(evaluations).where(evaluations.c.tenant == tenant, evaluations.c.job == evaluation_id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise _missing(evaluation_id)
        return Registration(request=EvaluationRequest.model_validate_json(row.request), encoder=row.encoder)

    def all(self, tenant: str) -> list[EvaluationJob]:
        """A tenant's evaluations, the latest first."""
        with self._database.read() as connection:
            found = connection.execute(_select(tenant).order_by(jobs.c.requested_at.desc(), jobs.c.id))
            return [_evaluation(row) for row in found]

    def collecting(self, tenant: str, evaluation_id: str) -> EvaluationJob:
        """An evaluation that takes pictures.

        Raises:
            NotFound: there is no such evaluation.
            InvalidRequest: it takes none.
        """
        found = self.load(tenant, evaluation_id)
        if found.request.itself:
            raise InvalidRequest("this evaluation asks the memory about itself: begin one without that for pictures")
        if found.state is not JobState.COLLECTING:
            raise InvalidRequest("this evaluation was started already: its pictures are sent before that")
        return found

    def put_queries(
        self, tenant: str, evaluation_id: str, queries: Queries, check: Callable[[], object] = lambda: None
    ) -> None:
        """Keep pictures that were sent; the same ones sent again take their place.

        Args:
            tenant: whose evaluation.
            evaluation_id: its id.
            queries: the pictures.
            check: called once they are kept; where it raises they go.

        Raises:
            NotFound: the evaluation is gone.
            InvalidRequest: it was started meanwhile.
        """
        said = Queries(ids=queries.ids, labels=queries.labels, vectors=b"", thumbnails=[]).model_dump_json()
        name = f"{sha256(said.encode()).hexdigest()}.{len(queries.ids)}"
        self._write(tenant, evaluation_id, f"queries/{name}", queries.model_dump_json().encode())
        try:
            self._put_row(tenant, evaluation_id, name, len(queries.ids))
            check()
        except Blocked:
            self._delete_row(evaluation_id, name)
            self._blobs.delete([_file(tenant, evaluation_id, f"queries/{name}")])
            raise
        except (NotFound, InvalidRequest):
            if name not in self._query_names(tenant, evaluation_id):
                self._blobs.delete([_file(tenant, evaluation_id, f"queries/{name}")])
            raise

    def queries(self, tenant: str, evaluation_id: str) -> Iterator[tuple[str, Queries]]:
        """The pictures that were sent, by the keys that `read_queries` takes."""
        for name in self._query_names(tenant, evaluation_id):
            key = _file(tenant, evaluation_id, f"queries/{name}")
            yield key, self.read_queries(key)

    def read_queries(self, key: str) -> Queries:
        """Some of the pictures that were sent."""
        return Queries.model_validate_json(self._blobs.read(key))

    def delete_queries(self, tenant: str, evaluation_id: str) -> None:
        """Delete the pictures that were sent."""
        with self._database.write(urgent=True) as connection:
            connection.execute(delete(evaluation_pictures).where(evaluation_pictures.c.job == evaluation_id))
        self._blobs.delete(self._blobs.list(_file(tenant, evaluation_id, "queries/")))

    def put_report(self, owned: OwnedJob, summary: EvaluationSummary, report: bytes) -> None:
        """Keep the report, a zip file.

        Raises:
            Stopped: the evaluation is gone, or another worker has begun it since.
        """
        name = f"report-{owned.token}.zip"
        try:
            self._write(owned.tenant, owned.id, name, report)
            with self._database.write() as connection:
                self._jobs.check(connection, owned)
                ours = evaluations.c.job == owned.id
                told = {"summary": summary.model_dump_json(), "report": name}
                connection.execute(update(evaluations).where(ours).values(told))
        except (NotFound, Stopped):
            self._blobs.delete([_file(owned.tenant, owned.id, name)])
            raise Stopped(owned.id) from None

    def has_report(self, tenant: str, evaluation_id: str) -> bool:
        """Whether its report is there, whole."""
        return self._report_name(tenant, evaluation_id) is not None

    def report(self, tenant: str, evaluation_id: str) -> bytes:
        """The report, a zip file.

        Raises:
            NotFound: there is no such evaluation, or it is not done.
        """
        state, name = self.load(tenant, evaluation_id).state, self._report_name(tenant, evaluation_id)
        if state is not JobState.DONE or name is None:
            raise NotFound(f"evaluation {evaluation_id!r} has no report: it is {state}")
        return self._blobs.read(_file(tenant, evaluation_id, name))

    def delete(self, tenant: str, evaluation_id: str, within: Within = nothing_else) -> int:
        """Delete all of it; a worker that is at it stops. Returns how many files that were."""
        self._jobs.delete(tenant, evaluation_id, within)
        return self._delete_files(tenant, evaluation_id)

    def forget(self, tenant: str, covered: CoveredImages) -> None:
        """Delete every evaluation of a tenant, as images that are gone had a part in it: the removal's hook.

        Where no image is gone, only those whose filter names what the removal's does.
        """
        if covered:
            self._jobs.delete_all(tenant, KIND)
            self._blobs.delete_temporary_files(now(), tenant)
            self._blobs.delete(self._blobs.list(f"{tenant}/"))
            return
        names = named_values(covered.filter)
        for each in self.all(tenant):
            if names & named_values(each.request.filter):
                self.delete(tenant, each.id)

    def tidy(self, before: datetime, _since: datetime | None = None) -> int:
        """Delete files that no row names, and evaluations that wait for their pictures in vain.

        Args:
            before: files that were written before this moment, and that no row names, are nobody's.

        Returns:
            how many files that were.
        """
        deleted = sum(self.delete(*each) for each in self._abandoned()) + self._blobs.delete_temporary_files(before)
        for tenant in self._blobs.top_folders():
            keys = self._blobs.list(f"{tenant}/")
            parts = (keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE))
            deleted += sum(self._delete_nameless(part, before) for part in parts)
        return deleted

    def _abandoned(self) -> list[tuple[str, str]]:
        query = select(jobs.c.tenant, jobs.c.id).where(jobs.c.kind == KIND, jobs.c.state == JobState.COLLECTING)
        with self._database.read() as connection:
            moment = self._database.moment(connection)
            found = connection.execute(query.where(jobs.c.requested_at <= moment - ABANDONED))
            return [(row.tenant, row.id) for row in found]

    def _delete_nameless(self, keys: Collection[str], before: datetime) -> int:
        ids = {key.split("/")[1] for key in keys}
        with self._database.read() as connection:
            held = {
                _file(row.tenant, row.job, row.report or "")
                for row in connection.execute(select(evaluations).where(evaluations.c.job.in_(ids)))
            }
            sent = select(evaluations.c.tenant, evaluation_pictures).join(evaluation_pictures)
            for row in connection.execute(sent.where(evaluation_pictures.c.job.in_(ids))):
                held.add(_file(row.tenant, row.job, f"queries/{row.file}"))
        return self._blobs.delete(key for key in keys if key not in held and self._is_old(key, before))

    def _is_old(self, key: str, before: datetime) -> bool:
        with suppress(NotFound):  # somebody deleted it right now
            return self._blobs.written_at(key) < before
        return False

    def _put_row(self, tenant: str, evaluation_id: str, name: str, pictures: int) -> None:
        with self._database.write() as connection:
            ours = (jobs.c.tenant == tenant) & (jobs.c.id == evaluation_id)
            state = connection.execute(select(jobs.c.state).where(ours).with_for_update()).scalar_one_or_none()
            if state is None:
                raise _missing(evaluation_id)
            if state != JobState.COLLECTING:
                raise InvalidRequest("this evaluation was started already: its pictures are sent before that")
            row = {"job": evaluation_id, "file": name, "pictures": pictures}
            connection.execute(self._database.insert(evaluation_pictures).values(row).on_conflict_do_nothing())

    def _delete_row(self, evaluation_id: str, name: str) -> None:
        ours = (evaluation_pictures.c.job == evaluation_id) & (evaluation_pictures.c.file == name)
        with self._database.write(urgent=True) as connection:
            connection.execute(delete(evaluation_pictures).where(ours))

    def _query_names(self, tenant: str, evaluation_id: str) -> list[str]:
        query = select(evaluation_pictures.c.file).join(evaluations).order_by(evaluation_pictures.c.file)
        with self._database.read() as connection:
            ours = (evaluations.c.tenant == tenant) & (evaluations.c.job == evaluation_id)
            return [*connection.execute(query.where(ours)).scalars()]

    def _report_name(self, tenant: str, evaluation_id: str) -> str | None:
        query = select(evaluations.c.report).where(evaluations.c.tenant == tenant, evaluations.c.job == evaluation_id)
        with self._database.read() as connection:
            name: str | None = connection.execute(query).scalar_one_or_none()
        return name

    def _delete_files(self, tenant: str, evaluation_id: str) -> int:
        folder = f"{tenant}/{evaluation_id}"
        drafts = self._blobs.delete_temporary_files(
            now(), folder
        )  # of a writer that was killed, or whose work is for nothing
        return drafts + self._blobs.delete(self._blobs.list(f"{folder}/"))

    def _write(self, tenant: str, evaluation_id: str, name: str, data: bytes) -> None:
        try:
            self._blobs.write(_file(tenant, evaluation_id, name), data)
        except NotFound:  # its draft was taken away with all the rest
            raise _missing(evaluation_id) from None


def _select(tenant: str) -> Select[Any]:
    """The rows that `_evaluation` takes."""
    sent = func.sum(evaluation_pictures.c.pictures)
    pictures = select(func.coalesce(sent, 0)).where(evaluation_pictures.c.job == jobs.c.id).scalar_subquery()
    query = select(jobs, evaluations.c.request, evaluations.c.summary, pictures.label("pictures")).join(evaluations)
    return query.where(jobs.c.tenant == tenant)


def _evaluation(row: Row[Any]) -> EvaluationJob:
    held = row._mapping  # noqa: SLF001 - the documented way to a row's columns by name
    is_done = held["state"] == JobState.DONE and held["summary"] is not None
    return EvaluationJob.model_validate(
        {name: held[name] for name in Job.model_fields}
        | {
            "request": EvaluationRequest.model_validate_json(held["request"]),
            "summary": EvaluationSummary.model_validate_json(held["summary"]) if is_done else None,
            "pictures": held["pictures"],
        }
    )


def _check_work(held: Collection[Job]) -> None:
    at_work = sum(job.state in OPEN for job in held)
    if at_work >= MAX_AT_WORK:
        raise Conflict(f"{at_work} evaluations wait or run already: start this one when one of them is done")


def _missing(evaluation_id: str) -> NotFound:
    return NotFound(f"there is no evaluation {evaluation_id!r}")


def _file(tenant: str, evaluation_id: str, name: str) -> str:
    return f"{tenant}/{evaluation_id}/{name}"
