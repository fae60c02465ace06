"""How a client waits for the receipt of a removal: the pauses between its requests."""

import time

from visual_memory.schemas.removal import Removal, RemovalStatus

WAIT_SECONDS = 120.0
"""How long a client waits for a receipt unless it is told otherwise."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class ReceiptWait:
    """The pauses of one wait.

    Args:
        seconds: how long to wait at most.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE

    def next_pause(self, removal: Removal) -> float | None:
        """Seconds until the removal is requested again; None where it is done, or the wait is over."""
        left = self._deadline - time.monotonic()
        if removal.status is RemovalStatus.DONE or left <= 0:
            return None
        pause, self._pause = min(self._pause, left), min(2 * self._pause, LONGEST_PAUSE)
        return pause
