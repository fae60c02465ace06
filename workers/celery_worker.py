"""A Celery worker: takes messages from queues, and hands them to the tasks of its process."""

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
    """Take messages until the process is told to end; from all queues in turn, so no backlog of one delays another."""
    worker_ready.connect(lambda **_: send_ready(), weak=False)
    setup_logging.connect(lambda **_: None, weak=False)  # logs are set up; Celery then leaves them alone
    celery.worker_main(["--quiet", "worker", *OPTIONS, f"--concurrency={threads}", f"--queues={','.join(queues)}"])


@contextmanager
def logged(task: str) -> Iterator[None]:
    """Log what a task fails with; nothing is raised to Celery, which would log it in words.

    What it was to do waits on, and the sweep enqueues it again.
    """
    try:
        yield
    except Unavailable as error:
        log.warning("%s is left for later: %s", task, json_logs.kind(error))
    except InvalidRequest as error:
        log.warning("%s is refused: %s", task, error.message)
    except Exception:
        log.exception("%s failed", task)
