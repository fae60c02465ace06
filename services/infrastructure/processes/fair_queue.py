"""A queue for scarce items, such as processes or slots: an owner that requests many delays only itself."""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Assigns items to the waiting owner that holds the fewest; owners that hold equally many are served in order.

    For threads, and for asyncio through `asyncio.wrap_future`.

    Args:
        items: the items; the one that was released last is assigned first.
        limit: how many of them one owner may hold.
    """

    def __init__(self, items: Iterable[Item], limit: int) -> None:
        self._free = list(items)
        self._limit = limit
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[Future[Item]]] = {}
        self._lock = threading.Lock()

    def request(self, owner: str) -> "Future[Item]":
        """Request an item; the returned future must be passed to `release` in every case."""
        requested: Future[Item] = Future()
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(requested)
            self._assign()
        return requested

    def release(self, owner: str, requested: "Future[Item]") -> None:
        """Release the item, or cancel the request for it."""
        with self._lock:
            if requested.cancel():
                queue = self._waiting.get(owner, deque())
                if requested in queue:
                    queue.remove(requested)
                    if not queue:
                        del self._waiting[owner]
                return
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
            self._free.append(requested.result())
            self._assign()

    @contextmanager
    def item(self, owner: str) -> Iterator[Item]:
        """Wait for an item, and hold it for the length of the block."""
        requested = self.request(owner)
        try:
            yield requested.result()
        finally:
            self.release(owner, requested)

    def _assign(self) -> None:
        while self._free:
            owners = [owner for owner in self._waiting if self._held[owner] < self._limit]
            if not owners:
                return
            owner = min(owners, key=self._held.__getitem__)
            queue = self._waiting.pop(owner)
            requested = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # behind the others
            if requested.set_running_or_notify_cancel():  # asyncio may have cancelled it
                self._held[owner] += 1
                requested.set_result(self._free.pop())
