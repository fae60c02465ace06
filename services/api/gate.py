"""The gate: what all requests of a process may take at once, and one tenant of that."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from schemas.errors import Unavailable

PATIENCE = 5.0
"""Seconds that a request waits for its turn at most."""


def share_of(number: int) -> int:
    """What one tenant may take of it: so much that it misses little alone, and never all."""
    return number * 3 // 4


class _Share:
    """What one tenant takes at the moment."""

    def __init__(self, turns: int) -> None:
        self.turns = asyncio.Semaphore(turns)
        self.held = 0


class Gate:
    """Bounds how many requests are worked on at once, and how many bytes of bodies are held.

    Args:
        turns: how many requests are worked on; others wait for their turn, in the order they came.
        room: how many bytes are held; what arrives beyond is refused.
    """

    def __init__(self, turns: int, room: int) -> None:
        self.turns = asyncio.Semaphore(turns)
        self.room = room
        self.held = 0
        self._turns_of_one = share_of(turns)
        self._shares: WeakValueDictionary[str, _Share] = WeakValueDictionary()

    @contextmanager
    def visit(self, tenant: str) -> Iterator["Visit"]:
        """A request of a tenant, from its body to its answer."""
        share = self._shares.get(tenant) or _Share(self._turns_of_one)
        self._shares[tenant] = share
        visit = Visit(self, share)
        try:
            yield visit
        finally:
            visit.end()


class Visit:
    """What one request takes, which its end gives back."""

    def __init__(self, gate: Gate, share: _Share) -> None:
        self._gate = gate
        self._share = share
        self._turns: list[asyncio.Semaphore] = []
        self._held = 0

    def hold(self, number: int) -> None:
        """Hold bytes more.

        Raises:
            Unavailable: there is no room for them.
        """
        gate, share = self._gate, self._share
        if gate.held + number > gate.room or share.held + number > share_of(gate.room):
            raise Unavailable("too much is being sent at once: send it again later")
        self._held += number
        share.held += number
        gate.held += number

    async def begin(self) -> None:
        """Wait for its turn.

        Raises:
            Unavailable: it did not come in time.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                for turns in (self._share.turns, self._gate.turns):
                    await turns.acquire()
                    self._turns.append(turns)
        except TimeoutError:
            raise Unavailable(f"too much is asked at once: no turn came within {PATIENCE:g} s") from None

    def end(self) -> None:
        """Give everything back."""
        for turns in self._turns:
            turns.release()
        self._share.held -= self._held
        self._gate.held -= self._held
