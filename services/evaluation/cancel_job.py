"""Cancel a job of any kind; of an evaluation, also delete what it collected."""

from dataclasses import dataclass

from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.event import EventType
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.task_queue.job_records import Jobs


@dataclass(frozen=True)
class CancelJob:
    """The use case of the API.

    Attributes:
        publish: publishes the event ``job``.
    """

    jobs: Jobs
    evaluations: Evaluations
    publish: Publish = publish_nothing

    def __call__(self, tenant: str, job: Job, cancelled_by: str, within: Within = nothing_else) -> None:
        """Cancel a job: a waiting one never begins, a worker that runs it stops at its next heartbeat.

        Args:
            tenant: whose job.
            job: which.
            cancelled_by: who asked for it, as the API knows them.
            within: what else to write in the same transaction.

        Raises:
            NotFound: there is no such job any more.
            Conflict: it has ended.
        """
        cancel = self.evaluations.cancel if job.kind is JobKind.EVALUATION else self.jobs.cancel
        cancel(tenant, job.id, cancelled_by, within)
        self.publish(tenant, EventType.JOB, job_id=job.id, job_kind=job.kind, job_state=JobState.CANCELLED)
