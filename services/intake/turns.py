"""Turns of threads: many work together, or one alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Gives them: to many who work together, or to one alone."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._ended = threading.Condition()
        self._working = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work beside others, once nobody works alone or waits to."""
        with self._door, self._ended:
            self._working += 1
        try:
            yield
        finally:
            with self._ended:
                self._working -= 1
                self._ended.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody begin, and work once all others have ended."""
        with self._door:
            with self._ended:
                self._ended.wait_for(lambda: not self._working)
            yield
