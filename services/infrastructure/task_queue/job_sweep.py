"""Enqueue tenants again whose jobs are overdue: the message was lost, or the worker died."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from visual_memory.services.infrastructure.task_queue.job_records import Jobs


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
