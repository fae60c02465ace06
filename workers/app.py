"""The worker: ``visual-memory worker`` runs `work`.

Messages are JSON, carry ids only, and are signed. A task that fails leaves its images waiting, and the sweep
enqueues them again; nothing is raised to Celery, which would log it in words.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from celery.signals import setup_logging, worker_ready

from schemas.errors import NotAuthorized, Unavailable
from services.bootstrap.wire_task_queue import celery_of
from services.bootstrap.worker_process import WorkerProcess
from services.infrastructure.processes.ready_message import send_ready
from services.infrastructure.task_queue.task_names import COMPACT, CURATE, JOB, REMEMBER, SWEEP, TIDY
from services.runtime import logs
from services.settings import Settings

settings = Settings()
app = celery_of(settings)
log = logging.getLogger(__name__)


_process: WorkerProcess | None = None


def work(process: WorkerProcess) -> None:
    """Take messages until it is told to end."""
    global _process  # noqa: PLW0603 - there is one in each process
    _process = process
    worker_ready.connect(lambda **_: send_ready(), weak=False)
    app.worker_main(
        ["--quiet", "worker", "--pool", "threads", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    )


def service() -> WorkerProcess:
    """The use cases of this process."""
    assert _process is not None
    return _process


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: object) -> None:
    """Write logs as every process does; Celery then leaves them alone."""
    logs.configure("worker")


@app.task(name=REMEMBER)  # type: ignore[untyped-decorator]
def remember(*message: object) -> None:
    """Give images their vectors, where the message is one that `TaskQueue.enqueue` sent."""
    with _logged():
        service().remember(*service().task_queue.read(REMEMBER, message))


@app.task(name=JOB)  # type: ignore[untyped-decorator]
def job(*message: object) -> None:
    """Do a job, where the message is one that `TaskQueue.enqueue_job` sent."""
    with _logged():
        tenant, ids = service().task_queue.read(JOB, message)
        service().run_job(tenant, *ids)


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
    except NotAuthorized as error:
        log.warning("refused: %s", error)
    except Exception:
        log.exception("failed")
