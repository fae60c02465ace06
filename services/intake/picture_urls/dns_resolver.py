"""Resolve host names in separate threads: the system's resolver may hang, and cannot be cancelled."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

LOOKUPS = 16
LOOKUPS_OF_ONE = 4
"""Concurrent lookups of one tenant; a hanging lookup occupies its slot for longer than its caller waits."""


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class DnsResolver:
    """Resolves names fairly for all tenants; a hanging lookup blocks neither other tenants nor the end of the process.

    Args:
        resolve: returns all addresses of a host and port; may hang.
    """

    def __init__(self, resolve: Callable[[str, int], Sequence[str]] = resolve) -> None:
        self._resolve = resolve
        self._slots = FairQueue([None] * LOOKUPS, LOOKUPS_OF_ONE)

    def __call__(self, tenant: str, host: str, port: int, deadline: float) -> Sequence[str]:
        """The addresses of a host that a tenant names.

        Raises:
            TimeoutError: they were not found by the deadline.
            Exception: any error of the system's resolver.
        """
        slot = self._slots.request(tenant)
        try:
            slot.result(left(deadline))
            found: Future[Sequence[str]] = Future()
            threading.Thread(target=self._look_up, args=(found, host, port), name="resolver", daemon=True).start()
        except BaseException:
            self._slots.release(tenant, slot)
            raise
        found.add_done_callback(lambda _: self._slots.release(tenant, slot))
        return found.result(left(deadline))

    def _look_up(self, found: "Future[Sequence[str]]", host: str, port: int) -> None:
        try:
            found.set_result(self._resolve(host, port))
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            found.set_exception(error)


def left(deadline: float) -> float:
    """Seconds until a deadline on the monotonic clock.

    Raises:
        TimeoutError: the deadline has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
