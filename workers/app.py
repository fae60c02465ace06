"""The Celery app: ``celery --app workers.app worker`` and ``... beat``, or ``visual-memory worker`` and ``... beat``.

Messages are JSON and carry ids only. A task that fails because a part does not answer leaves its images waiting; the
sweeper rings for them again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from celery.signals import worker_init, worker_shutdown
from prometheus_client import start_http_server

from schemas.errors import Unavailable
from services.bell import COMPACT, REMEMBER, SWEEP, TIDY
from services.bootstrap import Service, bootstrap, celery_of
from services.settings import Settings

settings = Settings()
app = celery_of(settings)
log = logging.getLogger(__name__)


@cache
def service() -> Service:
    """The wired parts of this worker process, encoder and all."""
    return bootstrap(settings)


@worker_init.connect  # type: ignore[untyped-decorator]
def _start(**_: object) -> None:
    """Load the encoder before the first message comes."""
    service()
    if settings.worker.metrics_port is not None:
        start_http_server(settings.worker.metrics_port)


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: object) -> None:
    service().close()


@app.task(name=REMEMBER)  # type: ignore[untyped-decorator]
def remember(tenant: str, image_ids: list[str]) -> None:
    """Give these images their vectors."""
    with _later_if_unavailable():
        service().remember(tenant, image_ids)


@app.task(name=SWEEP)  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Ring again for images that were left behind, carry on removals that were, and remove what has expired."""
    with _later_if_unavailable():
        service().sweep()
        service().forget.carry_on_all()
        service().expire()


@app.task(name=TIDY)  # type: ignore[untyped-decorator]
def tidy() -> None:
    """Delete pictures that a crash left without a point."""
    with _later_if_unavailable():
        service().tidy()


@app.task(name=COMPACT)  # type: ignore[untyped-decorator]
def compact() -> None:
    """Erase from the disk what was removed since the last time."""
    with _later_if_unavailable():
        service().compact.if_due()


@contextmanager
def _later_if_unavailable() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        log.warning("left for later: %s", error)
