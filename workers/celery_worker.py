"""Run a Celery worker: consume queues with threads, and log the failures of tasks."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from celery.signals import setup_logging, worker_ready

from visual_memory.schemas.errors import InvalidRequest, Unavailable
from visual_memory.services.infrastructure.observability import json_logs
from visual_memory.services.infrastructure.processes.ready_message import send_ready

OPTIONS = ("--pool=threads", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO")

log = logging.getLogger(__name__)


def work(celery: Celery, queues: Sequence[str], threads: int) -> None:
    """Consume messages until the process is asked to stop, round-robin over the queues."""
    worker_ready.connect(lambda **_: send_ready(), weak=False)
    setup_logging.connect(lambda **_: None, weak=False)  # keeps Celery from configuring logging
    celery.worker_main(["--quiet", "worker", *OPTIONS, f"--concurrency={threads}", f"--queues={','.join(queues)}"])


@contextmanager
def logged(task: str) -> Iterator[None]:
    """Log the error of a task and suppress it: Celery would log its message, which may quote a payload.

    The sweep enqueues the work again.
    """
    try:
        yield
    except Unavailable as error:
        log.warning("%s is left for later: %s", task, json_logs.kind(error))
    except InvalidRequest as error:
        log.warning("%s is refused: %s", task, error.message)
    except Exception:
        log.exception("%s failed", task)
