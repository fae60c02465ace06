"""One transaction for the writes of many threads: on a disk, each transaction costs a sync, however little it holds."""

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
    """A write that waits, and what came of it.

    Attributes:
        woken: it was done, or its thread is to lead.
    """

    make: Callable[[Connection], Any]
    woken: threading.Event = field(default_factory=threading.Event)
    done: bool = False
    result: Any = None
    error: BaseException | None = None


class GroupedWrites:
    """Of the threads that write, one leads at a time: it writes for all that wait, then another one does.

    Args:
        database: whose transactions these are; they may use the room on the disk that is kept for removals.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()
        self._led = False

    def __call__(self, make: Callable[[Connection], Result]) -> Result:
        """Write, durable when it returns; raises what the write raises, or the transaction."""
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
        """Write what waits, this thread's among it, and let the first of those who came since lead."""
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
        except Exception as error:  # noqa: BLE001 - it is raised in the threads whose writes these are
            if len(writes) == 1:
                writes[0].error = error
                return
            for write in writes:  # whose fault it was costs nobody else
                self._write([write])
        except BaseException as error:
            for write in writes:
                write.error = error
            raise
