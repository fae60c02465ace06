"""Threads that several owners share, in which one that has much to do holds up only itself."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

Result = TypeVar("Result")


class FairExecutor:
    """Does the work of owners in turn; what has not begun when the threads end is not done.

    Args:
        threads: do the work.
        number: how many there are, at least 2; one owner has all but one at most.
    """

    def __init__(self, threads: Executor, number: int) -> None:
        self._threads = threads
        self._turns = FairQueue([None] * number, number - 1)

    def submit(self, owner: str, work: Callable[[], Result]) -> "Future[Result]":
        """Do some work once it is the owner's turn; what comes of it."""
        done: Future[Result] = Future()
        turn = self._turns.request(owner)

        def run() -> None:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                done.set_exception(error)
            else:
                done.set_result(result)
            finally:
                self._turns.release(owner, turn)

        def begin(_: object) -> None:
            try:
                self._threads.submit(run)
            except RuntimeError:  # they end
                done.set_exception(Unavailable("the service is shutting down; send it again later"))

        turn.add_done_callback(begin)
        return done
