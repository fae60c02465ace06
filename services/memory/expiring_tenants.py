"""Whose images expire about now: only their searches need a condition for it."""

import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from visual_memory.schemas.image import now

LOOK_SECONDS = 5.0
AHEAD = timedelta(seconds=30)
"""What expires in the time until the next look counts too, even where the clock is moved on a little meanwhile."""


class ExpiringTenants:
    """The tenants that hold images whose time is over or soon will be; looked up every few seconds at most.

    An image that was accepted with an expiry within these seconds may vote until the next look.

    Args:
        expired: the tenants with images that expire until a moment.
    """

    def __init__(self, expired: Callable[[datetime], Collection[str]]) -> None:
        self._expired = expired
        self._found: Collection[str] = ()
        self._look_at = -float("inf")

    def __contains__(self, tenant: str) -> bool:
        """Whether it is one of them; of many who ask at the same time a few may look.

        Raises:
            Unavailable: the engine does not answer.
        """
        moment = time.monotonic()
        if moment >= self._look_at:
            self._found = self._expired(now() + AHEAD)
            self._look_at = moment + LOOK_SECONDS
        return tenant in self._found
