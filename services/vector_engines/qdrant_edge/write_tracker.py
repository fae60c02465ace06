"""Who may write to the embedded engine's collection, and which points were written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

Ids = set[str]


class Writes:
    """One write at a time, noted by its points.

    Attributes:
        turn: held by whoever writes: an operation by filter must not meet half of another write.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._outside: Ids = set()
        self._followed: Ids | None = None

    def note(self, ids: Ids) -> None:
        """These points are about to be written; in one's turn."""
        self._outside |= ids
        if self._followed is not None:
            self._followed |= ids

    def outside(self) -> int:
        """How many points were written since the shard was opened or exchanged: they lie outside of its index."""
        return len(self._outside)

    def exchanged(self) -> None:
        """The shard was exchanged for one that holds all that was written; in one's turn."""
        self._outside = set()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """While this lasts, `take` tells what is written."""
        with self.turn:
            self._followed = set()
        try:
            yield
        finally:
            with self.turn:
                self._followed = None

    def take(self) -> Ids:
        """The points written since they are followed, or since this was called last; in one's turn."""
        taken, self._followed = self._followed or set(), set()
        return taken
