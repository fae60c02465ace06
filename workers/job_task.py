"""The worker of jobs."""

from typing import Any

from celery import Celery

from services.bootstrap.job_process import JobProcess
from services.infrastructure.task_queue.task_arguments import tenant_of
from services.infrastructure.task_queue.task_names import RUN_JOBS
from workers.app import logged


def add_job_task(celery: Celery, process: JobProcess) -> None:
    """Let the app take messages of tenants that have jobs."""

    @celery.task(name=RUN_JOBS, bind=True)  # type: ignore[untyped-decorator]
    def run_jobs(self: Any, *message: object) -> None:
        with logged(RUN_JOBS):
            tenant = tenant_of(message)
            process.job_queue.take(tenant, self.request.id)
            process.run_jobs(tenant)
