"""Check credentials on the event loop, and read those that are not cached together."""

import asyncio
from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool

Found = TypeVar("Found")
Checked_co = TypeVar("Checked_co", covariant=True)


class Credentials(Protocol[Found, Checked_co]):
    """API keys, or tokens that stand for one."""

    def at_hand(self, text: str) -> bool:
        """Whether `check` needs no query."""

    def look(self, texts: Collection[str]) -> Found:
        """Read these credentials with one query."""

    def check(self, text: str, looked: Found | None = None) -> Checked_co:
        """Check a credential.

        Raises:
            NotAuthorized: it is not valid.
        """


class BatchedCheck(Generic[Found, Checked_co]):
    """Checks credentials on the event loop; those that are not cached are read together, however many are tried.

    Args:
        credentials: all of them.
    """

    def __init__(self, credentials: Credentials[Found, Checked_co]) -> None:
        self._credentials = credentials
        self._wanted: set[str] = set()
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[Found] | None = None

    async def __call__(self, text: str) -> Checked_co:
        """As `Credentials.check`."""
        if self._credentials.at_hand(text):
            return self._credentials.check(text)
        self._wanted.add(text)
        if self._next is None:
            self._next = asyncio.create_task(self._read())
        return self._credentials.check(text, await asyncio.shield(self._next))

    async def _read(self) -> Found:
        """Read all credentials that are wanted by the time that the previous read ends."""
        async with self._lock:
            self._next = None
            wanted, self._wanted = self._wanted, set()
            return await run_in_threadpool(self._credentials.look, wanted)
