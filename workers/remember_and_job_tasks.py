"""Tasks whose messages name a tenant that has work of a kind: pictures to remember, jobs to do."""

from collections.abc import Callable
from typing import Any

from celery import Celery

from visual_memory.services.infrastructure.task_queue.enqueue import TaskQueue
from visual_memory.services.infrastructure.task_queue.message_check import tenant_of
from visual_memory.workers.celery_worker import logged


def add_tenant_task(celery: Celery, task: str, queue: TaskQueue, work: Callable[[str], object]) -> None:
    """Let the app take the messages of a queue.

    Args:
        celery: the app.
        task: the task's name.
        queue: sends them.
        work: does some of a tenant's work.
    """

    @celery.task(name=task, bind=True)  # type: ignore[untyped-decorator]
    def tenant_task(self: Any, *message: object) -> None:
        with logged(task):
            tenant = tenant_of(message)
            queue.take(tenant, self.request.id)
            work(tenant)
