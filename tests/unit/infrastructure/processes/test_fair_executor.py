"""Promise 7: work of one tenant that takes long holds up no other tenant's."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.processes.fair_executor import FairExecutor

NUMBER = 4


def test_long_work_of_one_owner_holds_up_no_other() -> None:
    ended, begun = threading.Event(), threading.Semaphore(0)

    def takes_long() -> None:
        begun.release()
        assert ended.wait(60)

    with ThreadPoolExecutor(NUMBER) as threads:
        executor = FairExecutor(threads, NUMBER)
        long = [executor.submit("a", takes_long) for _ in range(16)]
        for _ in range(NUMBER - 1):
            assert begun.acquire(timeout=60)
        for _ in range(10):
            assert executor.submit("b", lambda: "done").result(60) == "done"
        assert not begun.acquire(blocking=False)
        ended.set()
        assert [each.result(60) for each in long] == [None] * 16


def test_what_work_raises_is_the_callers_and_its_turn_is_over() -> None:
    def fails() -> None:
        raise KeyError

    with ThreadPoolExecutor(2) as threads:
        executor = FairExecutor(threads, 2)
        for _ in range(5):
            with pytest.raises(KeyError):
                executor.submit("a", fails).result(60)


def test_what_has_not_begun_at_the_end_is_refused() -> None:
    with ThreadPoolExecutor(2) as threads:
        executor = FairExecutor(threads, 2)
    with pytest.raises(Unavailable, match="shutting down"):
        executor.submit("a", lambda: None).result(60)
