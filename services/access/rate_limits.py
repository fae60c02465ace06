"""Rate limits of API keys: requests and bytes per minute, questions per day.

They are counted in Redis for all API processes, and in this process alone while Redis does not answer. Windows are
fixed and begin with the first request, so `Retry-After` tells when the next one begins.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable

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

    async def count_request(self, key: Key) -> None:
        """Count a request.

        Raises:
            RateLimited: it exceeds the limit.
        """
        if key.requests_per_minute is not None:
            await self._count(RateLimitItemPerMinute(key.requests_per_minute, namespace="requests"), key, 1)

    async def count_bytes(self, key: Key, number: int) -> None:
        """Count received bytes.

        Raises:
            RateLimited: they exceed the limit.
        """
        if key.bytes_per_minute is not None and number:
            await self._count(RateLimitItemPerMinute(key.bytes_per_minute, namespace="bytes"), key, number)

    async def count_question(self, key_id: str, limit: int) -> bool:
        """Count a question to a vision-language model; False if the key has used its `limit` questions of the day."""
        return not await self._hit(RateLimitItemPerDay(limit, namespace="questions"), key_id, 1)

    async def _count(self, item: RateLimitItem, key: Key, cost: int) -> None:
        wait = await self._hit(item, key.id, cost)
        if wait:
            raise RateLimited(
                f"the key may send {item.amount} {item.namespace} a minute: send it again in {wait} seconds", wait
            )

    async def _hit(self, item: RateLimitItem, key_id: str, cost: int) -> int:
        """Count; returns the seconds to wait, 0 if the limit is not reached."""
        if self._clock() >= self._ask_again:
            try:
                async with asyncio.timeout(TIMEOUT):
                    return await _count(self._shared, item, key_id, cost)
            except (TimeoutError, RedisError, OSError) as error:
                self._ask_again = self._clock() + RETRY_PAUSE
                log.warning("rate limits are counted by this process alone for a while: %s", kind(error))
        return await _count(self._own, item, key_id, cost)


async def _count(limiter: FixedWindowRateLimiter, item: RateLimitItem, key_id: str, cost: int) -> int:
    if await limiter.hit(item, key_id, cost=cost):
        return 0
    window = await limiter.get_window_stats(item, key_id)
    return max(1, math.ceil(window.reset_time - time.time()))
