"""The tasks that Celery beat schedules, one for each use case: a failing or slow one delays no other."""

import threading
from collections.abc import Callable, Iterable
from functools import partial

from celery import Celery

from visual_memory.workers.celery_worker import logged


def add_periodic_tasks(celery: Celery, tasks: Iterable[str], do: Callable[[str], object]) -> None:
    """Register tasks with the app.

    Args:
        celery: the app.
        tasks: the names of the tasks.
        do: runs the use case of a task's name; must be safe to repeat.
    """
    for task in tasks:
        _add(celery, task, partial(do, task))


def _add(celery: Celery, task: str, run: Callable[[], object]) -> None:
    running = threading.Lock()

    @celery.task(name=task)  # type: ignore[untyped-decorator]
    def periodic(*_message: object) -> None:
        if not running.acquire(blocking=False):
            return  # already running in this process: one task occupies at most one thread
        try:
            with logged(task):
                run()
        finally:
            running.release()
