"""What beat asks for: a task for each duty, so that one which fails or takes long delays no other."""

import threading
from collections.abc import Callable, Mapping

from celery import Celery

from workers.app import logged


def add_periodic_tasks(celery: Celery, duties: Mapping[str, Callable[[], object]]) -> None:
    """Let the app take messages for duties.

    Args:
        celery: the app.
        duties: by the task's name; each may be done again at any time.
    """
    for task, duty in duties.items():
        _add(celery, task, duty)


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
