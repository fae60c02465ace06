"""Room in memory for decoded pictures: a small file may hold a large picture, and a request many of them."""

import threading
from collections import Counter
from types import TracebackType
from typing import Self


class Full(Exception):
    """There is no room for another picture beside those that the slice holds: it ends here."""


class Room:
    """So many bytes, for all threads of a process; what becomes free goes to the tenant that holds the least.

    Args:
        size: how many.
        most: how many of them one tenant may hold; at least what is taken at once.
    """

    def __init__(self, size: int, most: int) -> None:
        self._free = size
        self._most = most
        self._held: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._changed = threading.Condition()

    def hold(self, tenant: str) -> "Hold":
        """A part of it, empty at first, for one slice of a tenant's pictures."""
        return Hold(self, tenant)

    def take(self, hold: "Hold", number: int) -> None:
        """As `Hold.take`."""
        with self._changed:
            if not hold.held:
                self._wait(hold.tenant, number)
            elif not self._fits(hold.tenant, number):
                raise Full
            self._add(hold, number)

    def give(self, hold: "Hold", number: int) -> None:
        """As `Hold.give`."""
        with self._changed:
            self._add(hold, -number)
            self._changed.notify_all()

    def _wait(self, tenant: str, number: int) -> None:
        self._waiting[tenant] += 1
        try:
            self._changed.wait_for(lambda: self._fits(tenant, number) and self._is_next(tenant))
        finally:
            self._waiting[tenant] -= 1
            self._waiting += Counter()  # without those of nothing

    def _fits(self, tenant: str, number: int) -> bool:
        return number <= self._free and self._held[tenant] + number <= self._most

    def _is_next(self, tenant: str) -> bool:
        return self._held[tenant] <= min(self._held[other] for other in self._waiting)

    def _add(self, hold: "Hold", number: int) -> None:
        hold.held += number
        self._free -= number
        self._held[hold.tenant] += number
        self._held += Counter()


class Hold:
    """What one slice of pictures holds of a `Room`; its end gives all of it back.

    Who holds something never waits for more, so that nobody waits for one who waits.

    Attributes:
        tenant: whose pictures they are.
        held: how many bytes.
    """

    def __init__(self, room: Room, tenant: str) -> None:
        self._room = room
        self.tenant = tenant
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give(self.held)

    def take(self, number: int) -> None:
        """Take bytes; the first time, wait until there are as many.

        Raises:
            Full: there are not as many.
        """
        self._room.take(self, number)

    def give(self, number: int) -> None:
        """Give some back."""
        self._room.give(self, number)
