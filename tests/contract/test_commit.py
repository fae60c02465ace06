"""Group commit: nobody returns before a flush that began after the own write, and many share one."""

import threading
import time

import pytest

from schemas.errors import OutOfSpace
from services.memory.edge import GroupCommit


def test_each_writer_waits_for_a_flush_that_began_after_its_write() -> None:
    clock, flushes = threading.Lock(), []
    ticks = iter(range(10**6))

    def tick() -> int:
        with clock:
            return next(ticks)

    def flush() -> None:
        begun = tick()
        time.sleep(0.002)
        flushes.append((begun, tick()))

    commit = GroupCommit(flush)
    waits: list[tuple[int, int]] = []

    def write() -> None:
        for _ in range(30):
            written = tick()
            commit()
            waits.append((written, tick()))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == 240
    assert all(any(written < begun and ended < done for begun, ended in flushes) for written, done in waits)
    assert len(flushes) < 120


def test_a_flush_that_fails_is_nobodys_success() -> None:
    gate = threading.Event()
    calls = 0

    def flush() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            gate.wait(5)
        if calls <= 2:
            raise OSError(28, "No space left on device")

    commit = GroupCommit(flush)
    outcomes: list[bool] = []

    def write() -> None:
        try:
            commit()
            outcomes.append(True)
        except OutOfSpace:
            outcomes.append(False)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert sorted(outcomes) == [False, False, True]
    commit()
    with pytest.raises(OutOfSpace):
        GroupCommit(_full)()


def _full() -> None:
    raise OSError(28, "No space left on device")
