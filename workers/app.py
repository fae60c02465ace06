"""The Celery app: ``celery --app workers.app worker`` and ``... beat``, or ``visual-memory worker`` and ``... beat``.

Messages are JSON, carry ids only, and are signed. A task that fails leaves its images waiting, and the sweep
enqueues them again; nothing is raised to Celery, which would log it in words.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from celery.signals import setup_logging, worker_init, worker_shutdown

from schemas.errors import NotAuthorized, Unavailable
from services.bootstrap import Service, bootstrap
from services.infrastructure.task_queue.task_names import COMPACT, CURATE, JOB, REMEMBER, SWEEP, TIDY
from services.parts import celery_of
from services.runtime import logs, metrics
from services.settings import Settings

settings = Settings()
app = celery_of(settings)
log = logging.getLogger(__name__)


@cache
def service() -> Service:
    """The wired parts of this worker process, encoder and all."""
    return bootstrap(settings)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: object) -> None:
    """Write logs as every process does; Celery then leaves them alone."""
    logs.configure("worker")


@worker_init.connect  # type: ignore[untyped-decorator]
def _start(**_: object) -> None:
    """Load the encoder before the first message comes."""
    try:
        service()
    except Exception as error:  # it is tried again with each message
        log.critical("not ready: %s", error, exc_info=error)  # it can quote no picture, for none was read yet
    gc.freeze()
    gc.enable()
    if settings.worker.metrics_port is not None:
        metrics.serve(settings.worker.metrics_port)


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: object) -> None:
    service().close()


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
        service().expire()


@app.task(name=TIDY)  # type: ignore[untyped-decorator]
def tidy() -> None:
    """Delete what crashes left behind."""
    with _logged():
        service().tidy()


@app.task(name=COMPACT)  # type: ignore[untyped-decorator]
def compact() -> None:
    """Erase from the disk what was removed since the last time."""
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
