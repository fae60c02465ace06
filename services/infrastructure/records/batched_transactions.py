"""Group commit: one transaction for the writes of many threads, because each transaction costs a sync of the disk."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection

from visual_memory.services.infrastructure.records.database import Database

AT_ONCE = 256

Result = TypeVar("Result")


@dataclass
class _Write:
    """A waiting write and its result.

    Attributes:
        woken: set when the write is done, or when its thread becomes the leader.
    """

    make: Callable[[Connection], Any]
    woken: threading.Event = field(default_factory=threading.Event)
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class GroupedWrites:
    """Lets one thread at a time, the leader, write for all threads that wait; then another one leads.

    Args:
        database: the database; its writes may use the disk space that is reserved for removals.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()
        self._led = False

    def __call__(self, make: Callable[[Connection], Result]) -> Result:
        """Make a write; durable when it returns. Raises the error of the write or of the transaction."""
        own = _Write(make)
        with self._lock:
            self._waiting.append(own)
            leads, self._led = not self._led, True
        if not leads:
            own.woken.wait()
        if not own.done:
            self._lead()
        if own.error is not None:
            raise own.error
        result: Result = own.result
        return result

    def _lead(self) -> None:
        """Write for all waiting threads including this one, and let the first that arrived since lead next."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        try:
            self._write(taken)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._led = following is not None
            for write in taken:
                write.done = True
                write.woken.set()
            if following is not None:
                following.woken.set()

    def _write(self, writes: Sequence[_Write]) -> None:
        try:
            with self._database.write(urgent=True) as connection:
                for write in writes:
                    write.result = write.make(connection)
        except Exception as error:  # noqa: BLE001 - raised in the threads of these writes
            if len(writes) == 1:
                writes[0].error = error
                return
            for write in writes:  # so that a failing write affects no other
                self._write([write])
        except BaseException as error:
            for write in writes:
                write.error = error
            raise
