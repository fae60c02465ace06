"""Looks names up: the system's lookup may hang, cannot be ended, and so takes threads that nothing else needs."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

LOOKUPS = 16
LOOKUPS_OF_ONE = 4
"""Names of one tenant that are looked up at once: one that hangs may do so for longer than anybody waits for it."""


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, as the system knows it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class DnsResolver:
    """Looks names up for tenants in turn; nothing waits for one that hangs, the end of the process neither.

    Args:
        resolve: gives every address of a host and port; may hang.
    """

    def __init__(self, resolve: Callable[[str, int], Sequence[str]] = resolve) -> None:
        self._resolve = resolve
        self._turns = FairQueue([None] * LOOKUPS, LOOKUPS_OF_ONE)

    def __call__(self, tenant: str, host: str, port: int, deadline: float) -> Sequence[str]:
        """The addresses of a host that a tenant names.

        Raises:
            TimeoutError: they were not there in time.
            Exception: whatever the system says.
        """
        turn = self._turns.request(tenant)
        try:
            turn.result(left(deadline))
            found: Future[Sequence[str]] = Future()
            threading.Thread(target=self._look_up, args=(found, host, port), name="resolver", daemon=True).start()
        except BaseException:
            self._turns.release(tenant, turn)
            raise
        found.add_done_callback(lambda _: self._turns.release(tenant, turn))
        return found.result(left(deadline))

    def _look_up(self, found: "Future[Sequence[str]]", host: str, port: int) -> None:
        try:
            found.set_result(self._resolve(host, port))
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            found.set_exception(error)


def left(deadline: float) -> float:
    """Seconds that are left until a moment on the monotonic clock.

    Raises:
        TimeoutError: it is over.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
