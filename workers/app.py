"""The worker: ``visual-memory worker`` runs `work`.

A message says whose images wait, or which job. A task that fails leaves them waiting, and the sweep enqueues them
again; nothing is raised to Celery, which would log it in words.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Task
from celery.signals import setup_logging, worker_ready

from schemas.errors import InvalidRequest, Unavailable
from services.bootstrap.wire_task_queue import celery_of
from services.bootstrap.worker_process import WorkerProcess
from services.infrastructure.processes.ready_message import send_ready
from services.infrastructure.task_queue.task_arguments import job_of, tenant_of
from services.infrastructure.task_queue.task_names import COMPACT, CURATE, JOB, REMEMBER, SWEEP, TIDY
from services.runtime import logs
from services.settings import Settings

settings = Settings()
app = celery_of(settings)
log = logging.getLogger(__name__)


ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")
"""Workers tell each other nothing."""
_process: WorkerProcess | None = None


def work(process: WorkerProcess) -> None:
    """Take messages until it is told to end."""
    global _process  # noqa: PLW0603 - there is one in each process
    _process = process
    worker_ready.connect(lambda **_: send_ready(), weak=False)
    app.worker_main(["--quiet", "worker", "--pool", "threads", "--loglevel", "INFO", *ALONE])


def service() -> WorkerProcess:
    """The use cases of this process."""
    assert _process is not None
    return _process


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: object) -> None:
    """Write logs as every process does; Celery then leaves them alone."""
    logs.configure("worker")


@app.task(name=REMEMBER, bind=True)  # type: ignore[untyped-decorator]
def remember(self: Task, *message: object) -> None:
    """Give a slice of a tenant's waiting images their vectors."""
    with _logged():
        tenant = tenant_of(message)
        service().task_queue.take(tenant, self.request.id)
        service().remember(tenant)


@app.task(name=JOB)  # type: ignore[untyped-decorator]
def job(*message: object) -> None:
    """Do a job."""
    with _logged():
        service().run_job(*job_of(message))


@app.task(name=SWEEP)  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Enqueue again images and jobs that were left behind, carry on removals that were, remove what has expired."""
    with _logged():
        service().sweep()
        service().sweep_jobs()
        service().forget.carry_on_all()
        service().expire.if_due()


@app.task(name=TIDY)  # type: ignore[untyped-decorator]
def tidy() -> None:
    """Delete what crashes left behind."""
    with _logged():
        service().compact.tidy.if_due()


@app.task(name=COMPACT)  # type: ignore[untyped-decorator]
def compact() -> None:
    """Erase from the disk what was removed, where some of it has waited long enough."""
    with _logged():
        service().compact.if_due()


@app.task(name=CURATE)  # type: ignore[untyped-decorator]
def curate() -> None:
    """Judge the memories that were changed since they were judged last."""
    with _logged():
        service().judging.start_due()


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        log.warning("left for later: %s", logs.kind(error))
    except InvalidRequest as error:
        log.warning("refused: %s", error.message)
    except Exception:
        log.exception("failed")
