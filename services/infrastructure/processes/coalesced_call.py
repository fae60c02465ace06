"""One call for many who ask at once."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

Result = TypeVar("Result")


class CoalescedCall(Generic[Result]):
    """Strangers may ask as often as they like: there is one call at a time, and those who wait share the next.

    Nobody is told what came of a call that had begun before they asked: something may have changed since.

    Args:
        function: what is called, in a thread.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """What comes of a call that begins from now on."""
        if self._next is None:
            self._next = asyncio.create_task(self._call())
        return await asyncio.shield(self._next)

    async def _call(self) -> Result:
        async with self._lock:
            self._next = None
            return await run_in_threadpool(self._function)
