"""A queue for what there is too little of, in which an owner that asks for much holds up only itself."""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Hands out items, such as processes or request slots, to the owner that holds the fewest of those that wait.

    Owners that hold as many are served in turn. For threads, and for asyncio through `asyncio.wrap_future`.

    Args:
        items: what there is; the item that was given back last is handed out first.
        most: how many of them one owner may hold.
    """

    def __init__(self, items: Iterable[Item], most: int) -> None:
        self._free = list(items)
        self._most = most
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[Future[Item]]] = {}
        self._lock = threading.Lock()

    def request(self, owner: str) -> "Future[Item]":
        """A future that has an item once it is this owner's turn; `release` it, whatever becomes of it."""
        requested: Future[Item] = Future()
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(requested)
            self._hand_out()
        return requested

    def release(self, owner: str, requested: "Future[Item]") -> None:
        """Give the item back, or wait for it no longer."""
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
            self._hand_out()

    @contextmanager
    def item(self, owner: str) -> Iterator[Item]:
        """An item for a while; the thread waits for it."""
        requested = self.request(owner)
        try:
            yield requested.result()
        finally:
            self.release(owner, requested)

    def _hand_out(self) -> None:
        while self._free:
            owners = [owner for owner in self._waiting if self._held[owner] < self._most]
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
