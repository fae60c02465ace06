"""The processes: each can be run by itself; `up` starts what one machine needs.

What a process makes while it starts stays, so the garbage collector rests until it is ready: it would take a fifth of
the time. Whoever has made it ready freezes what is there and lets the collector go on.
"""

import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer

from visual_memory.services.cli.shared_options import FAILED, errors, fail, own_data
from visual_memory.services.infrastructure.processes import cpu_threads

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from visual_memory.services.settings import Settings

JOBS_AT_ONCE = 2
"""So that a long one does not hold up all others; each may hold the vectors of a whole memory."""
SELDOM = 10_000
"""New objects before the collector looks for cycles: a request makes hundreds, and next to none of them in a cycle."""

Process = TypeVar("Process")


def up() -> None:
    """Start everything on this machine (API, worker, Redis, engine) and keep it alive until Ctrl-C."""
    from visual_memory.services.bootstrap.wiring.wire_intake import intake_password
    from visual_memory.services.cli.commands.keys import make_first
    from visual_memory.services.infrastructure.processes.ready_message import send_ready
    from visual_memory.services.infrastructure.processes.supervisor import AlreadyRunning, run

    settings = own_data()
    url = f"http://{settings.api.host}:{settings.api.port}"

    def tell() -> None:
        typer.echo(f"ready at {url} (the API is described at {url}/docs); Ctrl-C stops it", err=True)
        send_ready()

    with errors():
        make_first(settings)
        typer.echo(f"starting; data and logs are in {settings.data.absolute()}", err=True)
        try:
            run(settings, intake_password(settings), tell)
        except AlreadyRunning as error:
            fail(str(error))


def api() -> None:
    """Serve the HTTP API (one of the processes that `up` starts)."""
    settings = _begin("api")
    from visual_memory.services.api.app import create_app
    from visual_memory.services.api.uvicorn_server import serve
    from visual_memory.services.bootstrap.api_process import api_process

    port = settings.api.metrics_port
    with _wired(api_process(settings), port, lambda process: [process.current().intake_metrics]) as process:
        gc.set_threshold(SELDOM)
        serve(create_app(settings, process), settings.api)


def worker() -> None:
    """Remember what waits: a Celery worker (one of the processes that `up` starts)."""
    settings = _begin("worker")
    from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
    from visual_memory.services.bootstrap.worker_process import worker_process
    from visual_memory.services.infrastructure.task_queue.task_names import PERIODIC_QUEUE, REMEMBER, REMEMBER_QUEUE
    from visual_memory.workers.celery_worker import work
    from visual_memory.workers.periodic_tasks import add_periodic_tasks
    from visual_memory.workers.tenant_task import add_tenant_task

    with _wired(worker_process(settings), settings.worker.metrics_port) as wired:
        celery, current = celery_of(settings), wired.current
        add_tenant_task(celery, REMEMBER, current().task_queue, lambda tenant: current().remember(tenant))
        add_periodic_tasks(celery, current().duties, lambda task: current().duties[task]())
        work(celery, [REMEMBER_QUEUE, PERIODIC_QUEUE], settings.worker.concurrency)


def jobs() -> None:
    """Do what may take minutes (judge, evaluate, erase): a Celery worker (one of the processes that `up` starts)."""
    settings = _begin("jobs")
    from visual_memory.services.bootstrap.job_process import EVERY, job_process
    from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
    from visual_memory.services.infrastructure.task_queue.task_names import JOB_QUEUE, RUN_JOBS
    from visual_memory.workers.celery_worker import work
    from visual_memory.workers.duty_threads import duty_threads
    from visual_memory.workers.tenant_task import add_tenant_task

    with _wired(job_process(settings), settings.worker.jobs_metrics_port) as wired:
        celery, current = celery_of(settings), wired.current
        add_tenant_task(celery, RUN_JOBS, current().job_queue, lambda tenant: current().run_jobs(tenant))
        with duty_threads(EVERY, lambda duty: current().duties[duty]()):
            work(celery, [JOB_QUEUE], JOBS_AT_ONCE)


def beat() -> None:
    """Enqueue what is due, again and again: Celery beat (one of the processes that `up` starts)."""
    settings = _begin("beat")
    from celery.signals import beat_init

    from visual_memory.services.bootstrap.wiring.wire_task_queue import celery_of
    from visual_memory.services.infrastructure.processes.ready_message import send_ready

    gc.enable()
    beat_init.connect(lambda **_: send_ready(), weak=False)
    celery_of(settings).Beat(scheduler_cls="celery.beat:Scheduler", loglevel="WARNING", quiet=True).run()


def intake_reader() -> None:
    """Accept what producers put on streams (one of the processes that `up` starts)."""
    settings = _begin("intake-reader")
    from visual_memory.services.bootstrap.intake_process import intake_process
    from visual_memory.services.infrastructure.processes.ready_message import send_ready

    with _wired(intake_process(settings), settings.intake.metrics_port, lambda process: [process.metrics]) as process:
        signal.signal(signal.SIGTERM, lambda _number, _frame: process.told.set())
        signal.signal(signal.SIGINT, lambda _number, _frame: process.told.set())
        send_ready()
        process.run()


def engine() -> None:
    """Own the embedded Qdrant engine (one of the processes that `up` starts)."""
    settings = _begin("engine")
    from visual_memory.services.infrastructure.storage.data_paths import Places
    from visual_memory.services.vector_engines.engine_owner_process import serve

    places = Places(settings.data)
    with _sentences():
        serve(places.engine, places.engine_socket, settings.store.min_free_bytes)


def _begin(name: str) -> "Settings":
    """What every process begins with."""
    gc.disable()
    cpu_threads.settle()
    from visual_memory.services.infrastructure.observability import json_logs

    json_logs.configure(name)
    return own_data()


@contextmanager
def _wired(
    process: AbstractContextManager[Process],
    metrics_port: int | None,
    further: "Callable[[Process], Sequence[Collector]]" = lambda _: (),
) -> Iterator[Process]:
    """A process that is wired, or that ends with a sentence in its log; what it has opened is closed at the end.

    Args:
        process: wires it.
        metrics_port: where its metrics are shown, if anywhere.
        further: what else is shown there.
    """
    from visual_memory.services.infrastructure.observability import prometheus_metrics

    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit())  # until there is a server that handles it better
    with ExitStack() as opened:
        with _sentences():
            wired = opened.enter_context(process)
            if metrics_port is not None:
                prometheus_metrics.serve(metrics_port, *further(wired))
        gc.freeze()
        gc.enable()
        yield wired


@contextmanager
def _sentences() -> Iterator[None]:
    """What cannot run ends with a sentence in the log: it can quote nothing that was sent, for nothing was read."""
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
