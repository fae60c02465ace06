"""Check clocks: refuse to accept images while this machine's clock differs from that of the records' database.

A removal covers the images that were accepted before it was requested, by the clock of the database, and shortly after.
So the acceptance time of an image must not be later than the time by that clock, within `LIMIT`.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from visual_memory.schemas.errors import Unavailable

LIMIT = 1.0
"""Largest accepted difference, in seconds."""
FRESH = 5.0
"""Seconds for which a measured difference is reused."""
CLOCKS_DIFFER = timedelta(minutes=1)
"""Largest assumed difference between the clocks of two machines."""


def is_over(since: datetime, duration: timedelta, moment: datetime, differ: timedelta = CLOCKS_DIFFER) -> bool:
    """Whether a duration has passed since a stored moment; also true if that moment is too far in the future.

    So a clock that was set back does not delay what is due.

    Args:
        since: the stored moment.
        duration: how long to wait after it.
        moment: the present.
        differ: how far in the future a stored moment may be and still be waited for.
    """
    return moment - since >= duration or since - moment > differ


class ClockCheck:
    """Compares the clock of this process with that of the database, at most every `FRESH` seconds.

    Args:
        difference: measures by how many seconds this process is ahead, at least; `Database.clock_difference`.
        uptime: a monotonic clock.
    """

    def __init__(self, difference: Callable[[], float], uptime: Callable[[], float] = time.monotonic) -> None:
        self._difference = difference
        self._uptime = uptime
        self._measuring = threading.Lock()
        self._measured: tuple[float, float] | None = None

    def check(self) -> None:
        """Return if the clocks agree.

        Raises:
            Unavailable: the clocks differ, or the database does not answer.
        """
        measured = self._measured
        if measured is None or self._uptime() - measured[0] > FRESH:
            with self._measuring:
                if self._measured is measured:  # no other thread has measured meanwhile
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
