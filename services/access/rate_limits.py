"""Rate limits of API keys: requests and bytes per minute, questions per day.

They are counted in Redis for all API processes, and in this process alone while Redis does not answer. Windows are
fixed and begin with the first request, so `Retry-After` tells when the next one begins.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.exceptions import RedisError

from visual_memory.schemas.api_key import Key
from visual_memory.schemas.errors import RateLimited
from visual_memory.services.infrastructure.observability.json_logs import kind

TIMEOUT = 0.25
"""Longest wait for Redis in a request, in seconds."""
RETRY_PAUSE = 5.0
"""Seconds until a Redis that did not answer is tried again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quota:
    """What is left of a limit of a key, after something was counted.

    Attributes:
        name: what is counted: ``requests``, ``bytes`` or ``questions``.
        limit: how many of these the key may send in a window.
        window: its length, in seconds.
        remaining: how many are left in this window.
        reset: whole seconds until the next window.
        exceeded: whether what was counted is over the limit.
    """

    name: str
    limit: int
    window: int
    remaining: int
    reset: int
    exceeded: bool

    def check(self) -> None:
        """Refuse what is over the limit.

        Raises:
            RateLimited: it is.
        """
        if self.exceeded:
            raise RateLimited(
                f"the key may send {self.limit} {self.name} a minute: send it again in {self.reset} seconds", self.reset
            )


class RateLimits:
    """Counts the requests of keys that have limits; for one event loop.

    Args:
        url: of the Redis that all API processes share: redis://, rediss:// or redis+unix://.
        prefix: of all key names in Redis.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, url: str, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = FixedWindowRateLimiter(
            RedisStorage(f"async+{url}", implementation="redispy", key_prefix=f"{prefix}limits")
        )
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._clock = clock
        self._ask_again = 0.0

    async def count_request(self, key: Key) -> Quota | None:
        """Count a request; None if the key may send any number."""
        if key.requests_per_minute is None:
            return None
        return await self._hit(RateLimitItemPerMinute(key.requests_per_minute, namespace="requests"), key.id, 1)

    async def count_bytes(self, key: Key, number: int) -> Quota | None:
        """Count received bytes; None if the key may send any number, or none came."""
        if key.bytes_per_minute is None or not number:
            return None
        return await self._hit(RateLimitItemPerMinute(key.bytes_per_minute, namespace="bytes"), key.id, number)

    async def count_question(self, key_id: str, limit: int) -> bool:
        """Count a question to a vision-language model; False if the key has used its `limit` questions of the day."""
        return not (await self._hit(RateLimitItemPerDay(limit, namespace="questions"), key_id, 1)).exceeded

    async def _hit(self, item: RateLimitItem, key_id: str, cost: int) -> Quota:
        if self._clock() >= self._ask_again:
            try:
                async with asyncio.timeout(TIMEOUT):
                    return await _count(self._shared, item, key_id, cost)
            except (TimeoutError, RedisError, OSError) as error:
                self._ask_again = self._clock() + RETRY_PAUSE
                log.warning("rate limits are counted by this process alone for a while: %s", kind(error))
        return await _count(self._own, item, key_id, cost)


async def _count(limiter: FixedWindowRateLimiter, item: RateLimitItem, key_id: str, cost: int) -> Quota:
    through = await limiter.hit(item, key_id, cost=cost)
    window = await limiter.get_window_stats(item, key_id)
    reset = max(1, math.ceil(window.reset_time - time.time()))
    return Quota(item.namespace, item.amount, item.get_expiry(), window.remaining, reset, exceeded=not through)
