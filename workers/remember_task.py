"""The worker: remembers what waits, and does the duties that are quickly done."""

from typing import Any

from celery import Celery

from services.bootstrap.worker_process import WorkerProcess
from services.infrastructure.task_queue.task_arguments import tenant_of
from services.infrastructure.task_queue.task_names import REMEMBER
from workers.app import logged


def add_remember_task(celery: Celery, process: WorkerProcess) -> None:
    """Let the app take messages of tenants that have pictures to remember."""

    @celery.task(name=REMEMBER, bind=True)  # type: ignore[untyped-decorator]
    def remember(self: Any, *message: object) -> None:
        with logged(REMEMBER):
            tenant = tenant_of(message)
            process.task_queue.take(tenant, self.request.id)
            process.remember(tenant)
