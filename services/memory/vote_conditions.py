"""The conditions that an image meets while it votes."""

import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.services.memory.points.point_filters import UNMARKED, in_state, not_expired

LOOK_SECONDS = 5.0
AHEAD = timedelta(seconds=30)
"""Images that expire before the next look count as expiring already, even if the clock is moved forward meanwhile."""


class VoteConditions:
    """Remembered, not marked by a removal and, for tenants with images that expire about now, not expired.

    A condition on the expiry slows a search, so the tenants that need it are looked up, at most every few seconds. An
    image that was accepted with an expiry within these seconds may vote until the next look.

    Args:
        expired: the tenants with images that expire by a moment.
    """

    def __init__(self, expired: Callable[[datetime], Collection[str]]) -> None:
        self._expired = expired
        self._expiring: Collection[str] = ()
        self._look_at = -float("inf")

    def of(self, tenant: str) -> list[Clause]:
        """The conditions for images of a tenant; several threads that call at the same time may all look up tenants.

        Raises:
            Unavailable: the engine does not answer.
        """
        moment = time.monotonic()
        if moment >= self._look_at:
            self._expiring = self._expired(now() + AHEAD)
            self._look_at = moment + LOOK_SECONDS
        remain = [in_state(State.REMEMBERED), UNMARKED]
        return [*remain, not_expired(now())] if tenant in self._expiring else remain
