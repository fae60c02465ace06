"""Store the labelled queries of an evaluation: a file for each request, which counts once a row names it."""

from collections.abc import Callable, Iterator

from sqlalchemy import delete, select

from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.errors import Blocked, InvalidRequest, NotFound
from visual_memory.services.evaluation.evaluation_files import EvaluationFiles, QueryBatch, query_key
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import evaluation_pictures, evaluations, jobs


class EvaluationQueries:
    """The labelled queries of every tenant's evaluations."""

    def __init__(self, database: Database, files: EvaluationFiles) -> None:
        self._database = database
        self._files = files

    def put(
        self, tenant: str, evaluation_id: str, queries: QueryBatch, check: Callable[[], object] = lambda: None
    ) -> None:
        """Store labelled queries; if the same ones are sent again, they are replaced.

        Args:
            tenant: whose evaluation.
            evaluation_id: its id.
            queries: the pictures.
            check: called once they are stored; if it raises `Blocked`, they are deleted.

        Raises:
            NotFound: the evaluation was deleted.
            InvalidRequest: it was started or cancelled meanwhile.
        """
        name = queries.file_name()
        key = query_key(tenant, evaluation_id, name)
        try:
            self._files.write(key, queries.model_dump_json().encode())
        except NotFound:  # its temporary file was deleted with the evaluation
            raise missing_evaluation(evaluation_id) from None
        try:
            self._put_row(tenant, evaluation_id, name, len(queries.ids))
            check()
        except Blocked:
            self._delete_row(evaluation_id, name)
            self._files.delete(key)
            raise
        except (NotFound, InvalidRequest):
            if name not in self._names(tenant, evaluation_id):
                self._files.delete(key)
            raise

    def all(self, tenant: str, evaluation_id: str) -> Iterator[tuple[str, QueryBatch]]:
        """The labelled queries of an evaluation, with the keys that `read` takes."""
        for name in self._names(tenant, evaluation_id):
            key = query_key(tenant, evaluation_id, name)
            yield key, self.read(key)

    def read(self, key: str) -> QueryBatch:
        """Read one of the batches."""
        return self._files.read_queries(key)

    def delete(self, tenant: str, evaluation_id: str) -> None:
        """Delete all labelled queries of an evaluation."""
        with self._database.write(urgent=True) as connection:
            connection.execute(delete(evaluation_pictures).where(evaluation_pictures.c.job == evaluation_id))
        self._files.delete_queries(tenant, evaluation_id)

    def _put_row(self, tenant: str, evaluation_id: str, name: str, pictures: int) -> None:
        with self._database.write() as connection:
            ours = (jobs.c.tenant == tenant) & (jobs.c.id == evaluation_id)
            state = connection.execute(select(jobs.c.state).where(ours).with_for_update()).scalar_one_or_none()
            if state is None:
                raise missing_evaluation(evaluation_id)
            if state != JobState.COLLECTING:
                raise not_collecting(state)
            row = {"job": evaluation_id, "file": name, "pictures": pictures}
            connection.execute(self._database.insert(evaluation_pictures).values(row).on_conflict_do_nothing())

    def _delete_row(self, evaluation_id: str, name: str) -> None:
        ours = (evaluation_pictures.c.job == evaluation_id) & (evaluation_pictures.c.file == name)
        with self._database.write(urgent=True) as connection:
            connection.execute(delete(evaluation_pictures).where(ours))

    def _names(self, tenant: str, evaluation_id: str) -> list[str]:
        query = select(evaluation_pictures.c.file).join(evaluations).order_by(evaluation_pictures.c.file)
        with self._database.read() as connection:
            ours = (evaluations.c.tenant == tenant) & (evaluations.c.job == evaluation_id)
            return [*connection.execute(query.where(ours)).scalars()]


def missing_evaluation(evaluation_id: str) -> NotFound:
    """The error for an id without an evaluation."""
    return NotFound(f"there is no evaluation {evaluation_id!r}")


def not_collecting(state: str) -> InvalidRequest:
    """The error for pictures that arrive when the evaluation accepts none any more."""
    if state == JobState.CANCELLED:
        return InvalidRequest("this evaluation was cancelled: create another one")
    return InvalidRequest("this evaluation was started already: its pictures are sent before that")
