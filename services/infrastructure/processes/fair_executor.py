"""An executor that several owners share: one with much work delays only itself."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

Result = TypeVar("Result")


class FairExecutor:
    """Runs the work of owners fairly; work that has not begun when the threads end is not run.

    Args:
        threads: run the work.
        number: how many threads there are, at least 2; one owner may use all but one.
    """

    def __init__(self, threads: Executor, number: int) -> None:
        self._threads = threads
        self._slots = FairQueue([None] * number, number - 1)

    def submit(self, owner: str, work: Callable[[], Result]) -> "Future[Result]":
        """Run some work once the owner gets a slot; returns the future of its result."""
        done: Future[Result] = Future()
        slot = self._slots.request(owner)

        def run() -> None:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - raised to the caller
                done.set_exception(error)
            else:
                done.set_result(result)
            finally:
                self._slots.release(owner, slot)

        def begin(_: object) -> None:
            try:
                self._threads.submit(run)
            except RuntimeError:  # the executor is shut down
                done.set_exception(Unavailable("the service is shutting down; send it again later"))

        slot.add_done_callback(begin)
        return done
