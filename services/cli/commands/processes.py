"""The processes that `up` starts; each can also be started by itself.

Objects made during the start live as long as the process, so the garbage collector is off until the process is ready:
it would take a fifth of the start. Then the objects are frozen and the collector is turned on.
"""

import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer

from visual_memory.services.cli.exit_codes import FAILED
from visual_memory.services.cli.local_data import local_settings
from visual_memory.services.infrastructure.processes import cpu_threads

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from visual_memory.services.settings import Settings

JOBS_AT_ONCE = 2
"""More than one, so that a long job does not delay all others; few, as each may load all vectors of a memory."""
GC_THRESHOLD = 10_000
"""New objects between two collections in the API: a request makes hundreds, and almost none in a cycle."""

Process = TypeVar("Process")


def api() -> None:
    """Serve the HTTP API (one of the processes that `up` starts)."""
    settings = _start("api")
    from visual_memory.services.api.app import create_app
    from visual_memory.services.api.uvicorn_server import serve
    from visual_memory.services.bootstrap.api_process import api_process

    port = settings.api.metrics_port
    with _open_process(api_process(settings), port, lambda process: [process.current().intake_metrics]) as process:
        gc.set_threshold(GC_THRESHOLD)
        serve(create_app(settings, process), settings.api)


def worker() -> None:
    """Remember waiting images: a Celery worker (one of the processes that `up` starts)."""
    settings = _start("worker")
    from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
    from visual_memory.services.bootstrap.worker_process import worker_process
    from visual_memory.services.infrastructure.task_queue.task_names import PERIODIC_QUEUE, REMEMBER, REMEMBER_QUEUE
    from visual_memory.workers.celery_worker import work
    from visual_memory.workers.periodic_tasks import add_periodic_tasks
    from visual_memory.workers.remember_and_job_tasks import add_tenant_task

    with _open_process(worker_process(settings), settings.worker.metrics_port) as wired:
        celery, current = celery_of(settings), wired.current
        add_tenant_task(celery, REMEMBER, current().task_queue, lambda tenant: current().remember(tenant))
        add_periodic_tasks(celery, current().periodic_tasks, lambda task: current().periodic_tasks[task]())
        work(celery, [REMEMBER_QUEUE, PERIODIC_QUEUE], settings.worker.concurrency)


def jobs() -> None:
    """Run long jobs (judge, evaluate, erase): a Celery worker (one of the processes that `up` starts)."""
    settings = _start("jobs")
    from visual_memory.services.bootstrap.job_process import EVERY, job_process
    from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
    from visual_memory.services.infrastructure.task_queue.task_names import JOB_QUEUE, RUN_JOBS
    from visual_memory.workers.celery_worker import work
    from visual_memory.workers.maintenance_threads import maintenance_threads
    from visual_memory.workers.remember_and_job_tasks import add_tenant_task

    with _open_process(job_process(settings), settings.worker.jobs_metrics_port) as wired:
        celery, current = celery_of(settings), wired.current
        add_tenant_task(celery, RUN_JOBS, current().job_queue, lambda tenant: current().run_jobs(tenant))
        with maintenance_threads(EVERY, lambda task: current().maintenance[task]()):
            work(celery, [JOB_QUEUE], JOBS_AT_ONCE)


def beat() -> None:
    """Enqueue periodic tasks: Celery beat (one of the processes that `up` starts)."""
    settings = _start("beat")
    from celery.signals import beat_init

    from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
    from visual_memory.services.infrastructure.processes.ready_message import send_ready

    gc.enable()
    beat_init.connect(lambda **_: send_ready(), weak=False)
    celery_of(settings).Beat(scheduler_cls="celery.beat:Scheduler", loglevel="WARNING", quiet=True).run()


def intake_reader() -> None:
    """Accept images and removals from Redis streams (one of the processes that `up` starts)."""
    settings = _start("intake-reader")
    from visual_memory.services.bootstrap.intake_process import intake_process
    from visual_memory.services.infrastructure.processes.ready_message import send_ready

    with _open_process(
        intake_process(settings), settings.intake.metrics_port, lambda process: [process.metrics]
    ) as process:
        signal.signal(signal.SIGTERM, lambda _number, _frame: process.stop.set())
        signal.signal(signal.SIGINT, lambda _number, _frame: process.stop.set())
        send_ready()
        process.run()


def engine() -> None:
    """Run the embedded Qdrant engine (one of the processes that `up` starts)."""
    settings = _start("engine")
    from visual_memory.services.infrastructure.storage.data_paths import DataPaths
    from visual_memory.services.vector_engines.engine_owner_process import serve

    paths = DataPaths(settings.data)
    with _log_and_exit_on_error():
        serve(paths.engine, paths.engine_socket, settings.store.min_free_bytes)


def _start(name: str) -> "Settings":
    """Configure the garbage collector, compute threads and logs of a process; return the settings."""
    gc.disable()
    cpu_threads.limit_library_threads()
    from visual_memory.services.infrastructure.observability import json_logs

    json_logs.configure(name)
    return local_settings()


@contextmanager
def _open_process(
    process: AbstractContextManager[Process],
    metrics_port: int | None,
    collectors_of: "Callable[[Process], Sequence[Collector]]" = lambda _: (),
) -> Iterator[Process]:
    """Build the objects of a process, serve its metrics, and close everything at the end.

    If a part cannot be built, the process logs why and exits with code 1.

    Args:
        process: builds the objects.
        metrics_port: the port of the metrics; None: they are not served.
        collectors_of: further collectors of the process, served with them.
    """
    from visual_memory.services.infrastructure.observability import prometheus_metrics

    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit())  # until a server installs its own handler
    with ExitStack() as stack:
        with _log_and_exit_on_error():
            wired = stack.enter_context(process)
            if metrics_port is not None:
                prometheus_metrics.serve(metrics_port, *collectors_of(wired))
        gc.freeze()
        gc.enable()
        yield wired


@contextmanager
def _log_and_exit_on_error() -> Iterator[None]:
    """Log an error of the start and exit with code 1; the message cannot quote user data, as none was read."""
    import logging

    from visual_memory.schemas.errors import VisualMemoryError

    log = logging.getLogger(__name__)
    try:
        yield
    except (VisualMemoryError, OSError) as error:
        log.critical("cannot run: %s", error)
        raise typer.Exit(FAILED) from None
    except Exception as error:
        log.critical("cannot run: %s: %s", type(error).__name__, error, exc_info=error)
        raise typer.Exit(FAILED) from None
