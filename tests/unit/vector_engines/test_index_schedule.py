"""When an index is asked for: not while much is written, but now and then even so; rarely after one that failed."""

import threading
from collections.abc import Sequence

import pytest

from visual_memory.services.vector_engines.qdrant_edge import index_schedule
from visual_memory.services.vector_engines.qdrant_edge.exclusive_writes import WriteTracker
from visual_memory.services.vector_engines.qdrant_edge.index_schedule import (
    LOOK_SECONDS,
    MAX_POSTPONED,
    REST_SECONDS,
    IndexSchedule,
)


class Looks(threading.Event):
    """Ends after some looks, before each of which so many points are written."""

    def __init__(self, writes: WriteTracker, written: Sequence[int]) -> None:
        super().__init__()
        self.writes = writes
        self.written = list(written)
        self.pauses: list[float | None] = []
        self.look = -1

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        self.look += 1
        if self.look < len(self.written):
            self.writes.add({f"{self.look}-{number}" for number in range(self.written[self.look])})
        else:
            self.set()
        return self.is_set()


def looks_that_count(written: Sequence[int]) -> list[int]:
    writes = WriteTracker()
    looks, counted = Looks(writes, written), list[int]()
    IndexSchedule(lambda: counted.append(looks.look), writes, looks).join()
    return counted


def test_it_waits_while_much_is_written_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_schedule, "BUSY", 5)
    assert looks_that_count([0, 5, 6, 6, 0, 5]) == [0, 1, 4, 5]
    assert looks_that_count([6] * 2 * MAX_POSTPONED) == [MAX_POSTPONED - 1, 2 * MAX_POSTPONED - 1]


def test_it_rests_after_one_that_failed() -> None:
    looks, outcomes = Looks(WriteTracker(), [0, 0]), iter([RuntimeError("no room"), None])

    def build() -> None:
        if (error := next(outcomes)) is not None:
            raise error

    IndexSchedule(build, looks.writes, looks).join()
    assert looks.pauses == [LOOK_SECONDS, REST_SECONDS, LOOK_SECONDS]
