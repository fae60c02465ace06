"""Allow one write to the embedded collection at a time, and track which points were written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

Ids = set[str]


class WriteTracker:
    """The write lock, and the ids of written points.

    Attributes:
        lock: every writer acquires it, so that an operation by filter never sees half of another write.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._unindexed: Ids = set()
        self._tracked: Ids | None = None

    def add(self, ids: Ids) -> None:
        """Record points that are about to be written; the caller has the lock."""
        self._unindexed |= ids
        if self._tracked is not None:
            self._tracked |= ids

    def unindexed(self) -> int:
        """Number of points written since the shard was opened or replaced; its index does not have them."""
        return len(self._unindexed)

    def note_switch(self) -> None:
        """Record that a shard with all written points has replaced the old one; the caller has the lock."""
        self._unindexed = set()

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Track writes for `take_tracked` until the context ends."""
        with self.lock:
            self._tracked = set()
        try:
            yield
        finally:
            with self.lock:
                self._tracked = None

    def take_tracked(self) -> Ids:
        """The points written since tracking began or since the last call; the caller has the lock."""
        taken, self._tracked = self._tracked or set(), set()
        return taken
