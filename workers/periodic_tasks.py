"""What beat asks for: a task for each duty, so that one which fails or takes long delays no other."""

import threading
from collections.abc import Callable, Iterable
from functools import partial

from celery import Celery

from visual_memory.workers.celery_worker import logged


def add_periodic_tasks(celery: Celery, tasks: Iterable[str], do: Callable[[str], object]) -> None:
    """Let the app take messages for duties.

    Args:
        celery: the app.
        tasks: the duties' names.
        do: does one; each may be done again at any time.
    """
    for task in tasks:
        _add(celery, task, partial(do, task))


def _add(celery: Celery, task: str, duty: Callable[[], object]) -> None:
    at_work = threading.Lock()

    @celery.task(name=task)  # type: ignore[untyped-decorator]
    def periodic(*_message: object) -> None:
        if not at_work.acquire(blocking=False):
            return  # this process is still at it: it takes one thread, however often it is asked for
        try:
            with logged(task):
                duty()
        finally:
            at_work.release()
