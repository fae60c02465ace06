"""Enqueue tenants again whose waiting images are overdue: the message was lost, or the worker died."""

from dataclasses import dataclass
from datetime import timedelta

from visual_memory.services.infrastructure.task_queue.enqueue import TaskQueue
from visual_memory.services.memory.memory_facade import Memory


@dataclass(frozen=True)
class SweepImages:
    """The use case.

    Attributes:
        lease: how long an image that a worker has begun is left to that worker.
    """

    memory: Memory
    task_queue: TaskQueue
    lease: timedelta

    def __call__(self) -> int:
        """Enqueue them; returns how many had no message in the queue."""
        return self.task_queue.enqueue_again(self.memory.leases.tenants_with_waiting(self.lease))
