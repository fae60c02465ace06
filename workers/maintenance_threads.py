"""Threads for periodic maintenance, one for each task: neither long jobs nor an unreachable broker delay it.

Each task is called again and again and checks stored records for whether it is due. So several processes may call it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from visual_memory.workers.celery_worker import logged


@contextmanager
def maintenance_threads(every: Mapping[str, float], do: Callable[[str], object]) -> Iterator[None]:
    """Run tasks while the context is open; at its end, wait for those that are running.

    Args:
        every: seconds between the end of a task and its next start, by the task's name.
        do: runs the task of a name; must be safe to repeat.
    """
    ended = threading.Event()
    threads = [
        threading.Thread(target=_repeat, args=(name, seconds, partial(do, name), ended), name=name)
        for name, seconds in every.items()
    ]
    for thread in threads:
        thread.daemon = True  # a process that is asked twice to stop waits for none
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _repeat(name: str, seconds: float, task: Callable[[], object], ended: threading.Event) -> None:
    while not ended.is_set():
        with logged(name):
            task()
        ended.wait(seconds)
