"""Let many writers share one fsync."""

import threading
from collections.abc import Callable

from visual_memory.services.infrastructure.storage.disk_space import translate_full_disk


class GroupCommit:
    """One sync for many writers: each waits for the first sync that starts after its write.

    Args:
        sync: makes all earlier writes durable.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._condition = threading.Condition()
        self._begun = 0
        self._done = 0
        self._busy = False

    def __call__(self) -> None:
        """Return when a sync that started after this call has succeeded; raise if the sync that this call ran fails."""
        with self._condition:
            needed = self._begun + 1
            while self._done < needed:
                if self._busy:
                    self._condition.wait()
                else:
                    self._lead()

    def _lead(self) -> None:
        self._begun += 1
        number, self._busy = self._begun, True
        self._condition.release()
        try:
            with translate_full_disk():
                self._sync()
        except BaseException:
            number = 0  # callers that wait for it must sync themselves
            raise
        finally:
            self._condition.acquire()
            self._done, self._busy = max(self._done, number), False
            self._condition.notify_all()
