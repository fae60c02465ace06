"""The tasks that remember pictures and run jobs: their messages name a tenant that has such work."""

from collections.abc import Callable
from typing import Any

from celery import Celery

from visual_memory.services.infrastructure.task_queue.check_worker_messages import tenant_of
from visual_memory.services.infrastructure.task_queue.enqueue import TaskQueue
from visual_memory.workers.celery_worker import logged


def add_tenant_task(celery: Celery, task: str, queue: TaskQueue, work: Callable[[str], object]) -> None:
    """Register a task with the app.

    Args:
        celery: the app.
        task: the name of the task.
        queue: the task queue that sends its messages.
        work: does some of the work of a tenant.
    """

    @celery.task(name=task, bind=True)  # type: ignore[untyped-decorator]
    def tenant_task(self: Any, *message: object) -> None:
        with logged(task):
            tenant = tenant_of(message)
            queue.clear_flag(tenant, self.request.id)
            work(tenant)
