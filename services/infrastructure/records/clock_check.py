"""The clock guard: whose clock differs from the database's accepts nothing.

A removal covers what was accepted by the moment at which it was asked for, by the database's clock, and a little after.
So an image must not carry a moment of acceptance that is later than that by more.
"""

import threading
import time
from collections.abc import Callable

from visual_memory.schemas.errors import Unavailable

LIMIT = 1.0
"""Seconds."""
FRESH = 5.0
"""Seconds for which a difference that was measured is believed."""


class ClockGuard:
    """Compares this process's clock with the database's, every few seconds.

    Args:
        difference: measures by how many seconds it is ahead, at least; `Database.clock_difference`.
        uptime: a clock that nobody sets.
    """

    def __init__(self, difference: Callable[[], float], uptime: Callable[[], float] = time.monotonic) -> None:
        self._difference = difference
        self._uptime = uptime
        self._measuring = threading.Lock()
        self._measured: tuple[float, float] | None = None

    def check(self) -> None:
        """Return if the clocks agree.

        Raises:
            Unavailable: they do not, or the database does not answer.
        """
        measured = self._measured
        if measured is None or self._uptime() - measured[0] > FRESH:
            with self._measuring:
                if self._measured is measured:  # nobody else did it meanwhile
                    begun = self._uptime()
                    self._measured = begun, self._difference()
                measured = self._measured
        assert measured is not None
        if abs(measured[1]) > LIMIT:
            side = "ahead of" if measured[1] > 0 else "behind"
            raise Unavailable(
                f"the clock of this machine is {abs(measured[1]):.1f} s {side} that of the records' database: set it"
                " right, for nothing is accepted until then"
            )
