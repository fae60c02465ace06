"""Room in memory for decoded pictures: a small file may hold a large picture, and a request many of them."""

import threading
from types import TracebackType
from typing import Self


class Full(Exception):
    """There is no room for another picture beside those that the slice holds: it ends here."""


class Room:
    """So many bytes, for all threads of a process.

    Args:
        size: how many; at least what is taken at once.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    def hold(self) -> "Hold":
        """A part of it, empty at first, for one slice of pictures."""
        return Hold(self)

    def take(self, number: int, *, wait: bool) -> bool:
        """Take bytes, if there are as many, or once there are."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._free >= number)
            if self._free < number:
                return False
            self._free -= number
            return True

    def give(self, number: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._free += number
            self._changed.notify_all()


class Hold:
    """What one slice of pictures holds of a `Room`; its end gives all of it back.

    Who holds something never waits for more, so that nobody waits for one who waits.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0
        self._ended = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ended = True
            self._room.give(self._held)

    def take(self, number: int) -> None:
        """Take bytes; the first time, wait until there are as many.

        Raises:
            Full: there are not as many.
        """
        with self._lock:
            if self._ended or not self._room.take(number, wait=not self._held):
                raise Full
            self._held += number

    def give(self, number: int) -> None:
        """Give some back, unless its end did: a slice may end with an error while another thread decodes for it."""
        with self._lock:
            if not self._ended:
                self._held -= number
                self._room.give(number)
