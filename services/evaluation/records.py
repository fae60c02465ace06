"""The records of evaluations: what was asked, the labelled pictures that were sent for it, and the report.

An evaluation is there as long as its record under ``evaluations/``, which is created once, before anything is read for
it, and is the first to go. Whoever writes a file of it looks for the record afterwards, and takes the file away where
it is gone: so a worker that read the memory before a removal leaves no report behind after it. What a crash between
the two leaves is shown to nobody, and tidied. The record of the job, which a late worker may write once more, says only
how far it is.
"""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from schemas.errors import Blocked, InvalidRequest, NotFound
from schemas.evaluation_job import EvaluationJob, EvaluationRequest, EvaluationSummary
from schemas.image import now
from schemas.job import Job, JobKind, JobState
from services.forgetting.covered_images import CoveredImages
from services.memory.blobs import Blobs
from services.memory.ledger import Ledger
from services.memory.space import NEW
from services.runtime.jobs import Jobs
from services.runtime.moments import is_over

KIND = JobKind.EVALUATION
AT_WORK = (JobState.WAITING, JobState.RUNNING)
KEPT = 20
"""How many evaluations of a tenant are kept; the oldest that is not at work makes room for another."""
ABANDONED = timedelta(days=1)
"""How long an evaluation may wait for its pictures."""
REPORT, SUMMARY = "report.zip", "summary.json"


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
    """That there is such an evaluation; `encoder` is the one whose vectors are to be compared."""

    model_config = ConfigDict(frozen=True)

    request: EvaluationRequest
    encoder: str


class Evaluations:
    """The evaluations of every tenant.

    Args:
        ledger: of the records.
        jobs: how far each is.
        url: a folder of this machine, or an fsspec URL: of pictures sent and reports.
        floor: bytes that must stay free on this machine's disk; see `services.memory.space`.
    """

    def __init__(self, ledger: Ledger, jobs: Jobs, url: str | Path, floor: int = 0) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._blobs = Blobs(url, floor * NEW)

    def create(self, tenant: str, request: EvaluationRequest, encoder: str, requested_by: str) -> EvaluationJob:
        """A new evaluation, which collects."""
        kept = self.all(tenant)
        idle = [each.id for each in reversed(kept) if each.state not in AT_WORK]
        for oldest in idle[: max(0, len(kept) + 1 - KEPT)]:
            self.delete(tenant, oldest)
        job = self._jobs.create(tenant, KIND, requested_by, JobState.COLLECTING)
        registration = Registration(request=request, encoder=encoder)
        self._ledger.create(_record(tenant, job.id), registration.model_dump(mode="json"))
        return self.load(tenant, job.id)

    def start(self, tenant: str, evaluation_id: str) -> None:
        """Let it wait for a worker; one that does already, or is done, stays as it is."""
        job = self._job(tenant, evaluation_id)
        if job.state is JobState.COLLECTING:
            self._jobs.save(tenant, job.model_copy(update={"state": JobState.WAITING}))

    def load(self, tenant: str, evaluation_id: str) -> EvaluationJob:
        """An evaluation.

        Raises:
            NotFound: there is none.
        """
        request = self.registration(tenant, evaluation_id).request
        job = self._job(tenant, evaluation_id)
        summary = self._summary(tenant, evaluation_id) if job.state is JobState.DONE else None
        pictures = sum(int(key.rsplit(".", 1)[1]) for key in self._query_keys(tenant, evaluation_id))
        return EvaluationJob(**dict(job), request=request, pictures=pictures, summary=summary)

    def registration(self, tenant: str, evaluation_id: str) -> Registration:
        """What was asked.

        Raises:
            NotFound: there is no such evaluation.
        """
        try:
            uuid.UUID(evaluation_id)  # it comes from a URL and becomes part of a key
            return Registration.model_validate(self._ledger.get(_record(tenant, evaluation_id)))
        except (NotFound, ValueError):
            raise _missing(evaluation_id) from None

    def all(self, tenant: str) -> list[EvaluationJob]:
        """A tenant's evaluations, the latest first."""
        found = []
        for key in self._ledger.list(f"evaluations/{tenant}/"):
            try:
                found.append(self.load(tenant, _last(key)))
            except NotFound:
                continue  # deleted at this moment
        return sorted(found, key=lambda each: each.requested_at, reverse=True)

    def exists(self, tenant: str, evaluation_id: str) -> bool:
        """Whether there is such an evaluation."""
        return self._ledger.exists(_record(tenant, evaluation_id))

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
        name = f"queries/{sha256(said.encode()).hexdigest()}.{len(queries.ids)}"
        self._write(tenant, evaluation_id, name, queries.model_dump_json().encode())
        try:
            self.collecting(tenant, evaluation_id)
            check()
        except (InvalidRequest, Blocked):
            self._blobs.delete([_file(tenant, evaluation_id, name)])
            raise

    def queries(self, tenant: str, evaluation_id: str) -> Iterator[tuple[str, Queries]]:
        """The pictures that were sent, by the keys that `read_queries` takes."""
        for key in self._query_keys(tenant, evaluation_id):
            yield key, self.read_queries(key)

    def read_queries(self, key: str) -> Queries:
        """Some of the pictures that were sent."""
        return Queries.model_validate_json(self._blobs.read(key))

    def delete_queries(self, tenant: str, evaluation_id: str) -> None:
        """Delete the pictures that were sent."""
        self._blobs.delete(self._query_keys(tenant, evaluation_id))

    def put_report(self, tenant: str, evaluation_id: str, summary: EvaluationSummary, report: bytes) -> None:
        """Keep the report, a zip file.

        Raises:
            NotFound: the evaluation is gone.
        """
        self._write(tenant, evaluation_id, REPORT, report)
        self._write(tenant, evaluation_id, SUMMARY, summary.model_dump_json().encode())

    def has_report(self, tenant: str, evaluation_id: str) -> bool:
        """Whether its report is there, whole."""
        return self._blobs.exists(_file(tenant, evaluation_id, SUMMARY))

    def report(self, tenant: str, evaluation_id: str) -> bytes:
        """The report, a zip file.

        Raises:
            NotFound: there is no such evaluation, or it is not done.
        """
        state = self.load(tenant, evaluation_id).state
        if state is not JobState.DONE:
            raise NotFound(f"evaluation {evaluation_id!r} has no report: it is {state}")
        return self._blobs.read(_file(tenant, evaluation_id, REPORT))

    def delete(self, tenant: str, evaluation_id: str) -> int:
        """Delete all of it, the record first; a worker that is at it stops. Returns how many files that were."""
        self._ledger.delete(_record(tenant, evaluation_id))
        self._jobs.delete(tenant, evaluation_id)
        folder = f"{tenant}/{evaluation_id}"
        drafts = self._blobs.delete_drafts(now(), folder)  # of a writer that was killed, or whose work is for nothing
        return drafts + self._blobs.delete(self._blobs.list(f"{folder}/"))

    def forget(self, tenant: str, _covered: CoveredImages) -> None:
        """Delete every evaluation of a tenant, as images that are gone had a part in it: the removal's hook."""
        records = {_last(key) for key in self._ledger.list(f"evaluations/{tenant}/")}
        folders = {key.split("/")[1] for key in self._blobs.list(f"{tenant}/")}
        for evaluation_id in records | folders | {job.id for job in self._jobs.all(tenant, KIND)}:
            self.delete(tenant, evaluation_id)

    def tidy(self, before: datetime, _since: datetime | None = None) -> int:
        """Delete files that a crash left without a record, and evaluations that wait for their pictures in vain.

        Args:
            before: files that were half written before this moment are given up.

        Returns:
            how many files that were.
        """
        files = {(key.split("/")[0], key.split("/")[1]) for key in self._blobs.list("")}
        records = {(key.split("/")[1], _last(key)) for key in self._ledger.list("evaluations/")}
        spare = [each for each in sorted(files | records) if self._is_spare(*each)]
        return self._blobs.delete_drafts(before) + sum(self.delete(*each) for each in spare)

    def _is_spare(self, tenant: str, evaluation_id: str) -> bool:
        try:
            self.registration(tenant, evaluation_id)
            job = self._job(tenant, evaluation_id)
        except NotFound:
            return True
        return job.state is JobState.COLLECTING and is_over(job.requested_at, ABANDONED, now())

    def _job(self, tenant: str, evaluation_id: str) -> Job:
        try:
            return self._jobs.load(tenant, evaluation_id, KIND)
        except NotFound:
            raise _missing(evaluation_id) from None

    def _summary(self, tenant: str, evaluation_id: str) -> EvaluationSummary | None:
        try:
            return EvaluationSummary.model_validate_json(self._blobs.read(_file(tenant, evaluation_id, SUMMARY)))
        except NotFound:  # it is being deleted at this moment
            return None

    def _query_keys(self, tenant: str, evaluation_id: str) -> list[str]:
        return self._blobs.list(_file(tenant, evaluation_id, "queries/"))

    def _write(self, tenant: str, evaluation_id: str, name: str, data: bytes) -> None:
        try:
            self._blobs.write(_file(tenant, evaluation_id, name), data)
        except NotFound:  # its draft was taken away with all the rest
            raise _missing(evaluation_id) from None
        if not self.exists(tenant, evaluation_id):
            self.delete(tenant, evaluation_id)
            raise _missing(evaluation_id)


def _missing(evaluation_id: str) -> NotFound:
    return NotFound(f"there is no evaluation {evaluation_id!r}")


def _record(tenant: str, evaluation_id: str) -> str:
    return f"evaluations/{tenant}/{evaluation_id}"


def _file(tenant: str, evaluation_id: str, name: str) -> str:
    return f"{tenant}/{evaluation_id}/{name}"


def _last(key: str) -> str:
    return key.rsplit("/", 1)[1]
