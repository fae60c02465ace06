"""Duties that have a thread each in their process: no job, however long, and no silent broker holds them up.

They are asked again and again, as beat would ask; stored records tell whether anything is due. So it does no harm that
every process of a kind asks.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from visual_memory.workers.celery_worker import logged


@contextmanager
def maintenance_threads(every: Mapping[str, float], do: Callable[[str], object]) -> Iterator[None]:
    """Do duties while the context is open; at its end what has been begun is ended.

    Args:
        every: how many seconds pass from the end of each duty to its next turn.
        do: does one; each may be done again at any time.
    """
    ended = threading.Event()
    threads = [
        threading.Thread(target=_again_and_again, args=(duty, seconds, partial(do, duty), ended), name=duty)
        for duty, seconds in every.items()
    ]
    for thread in threads:
        thread.daemon = True  # who is told twice to end waits for none
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _again_and_again(name: str, seconds: float, duty: Callable[[], object], ended: threading.Event) -> None:
    while not ended.is_set():
        with logged(name):
            duty()
        ended.wait(seconds)
