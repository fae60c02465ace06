"""Coalesce concurrent calls of a function into one."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

Result = TypeVar("Result")


class CoalescedCall(Generic[Result]):
    """Runs one call at a time; callers that arrive while it runs share the next one.

    A caller never gets the result of a call that began before it arrived, because something may have changed since.

    Args:
        function: the function, called in a thread.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """The result of a call that begins from now on."""
        if self._next is None:
            self._next = asyncio.create_task(self._call())
        return await asyncio.shield(self._next)

    async def _call(self) -> Result:
        async with self._lock:
            self._next = None
            return await run_in_threadpool(self._function)
