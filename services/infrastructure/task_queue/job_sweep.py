"""Enqueue tenants again whose jobs are overdue: the message was lost, or the worker died."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from visual_memory.services.infrastructure.task_queue.job_records import Jobs


@dataclass(frozen=True)
class SweepJobs:
    """The use case.

    Attributes:
        lease: as in `RunJobs`.
        enqueue_again: enqueues those tenants that have no message in the queue; a failure is not reported.
    """

    jobs: Jobs
    lease: timedelta
    enqueue_again: Callable[[Iterable[str]], object]

    def __call__(self) -> None:
        """Enqueue the tenants that have jobs which no worker runs."""
        self.enqueue_again(sorted(self.jobs.overdue(self.lease)))
