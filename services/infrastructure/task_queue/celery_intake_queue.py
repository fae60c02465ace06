"""The queue of what others send by Celery: its one reader sees a message, deals with it, and only then takes it out."""

import logging
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from visual_memory.services.infrastructure.observability import prometheus_metrics

AT_ONCE = 20
"""Messages that are held at once: of the largest these are 12 MB."""
PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""What Celery appends to a queue's name for messages with a priority, the most urgent first."""

log = logging.getLogger(__name__)


class CeleryIntakeQueue:
    """The queue; all but one process at a time leave it alone.

    Every method raises `redis.exceptions.RedisError` where the broker does not answer.

    Args:
        broker: where it is; it decodes nothing, and waits for answers for longer than `wait` is told to.
        key: its name in there.
    """

    def __init__(self, broker: "Redis", key: str) -> None:
        self._redis: Any = broker  # its types speak of asynchronous clients too
        self._key = key

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """The next messages, each with the key of the list that it is in, the first first."""
        for priority in PRIORITIES:
            key = f"{self._key}{priority}"
            for message in reversed(self._tail(key)):
                yield key, message

    def take(self, key: str, message: bytes) -> None:
        """Take a message out."""
        self._redis.lrem(key, -1, message)

    def put_last(self, key: str, message: bytes) -> None:
        """Put a message behind all others."""
        with self._redis.pipeline() as pipe:
            pipe.lrem(key, -1, message)
            pipe.lpush(key, message)
            pipe.execute()

    def wait(self, seconds: float) -> None:
        """Return once there is a message without a priority, or after some seconds."""
        # the next one is moved to where it is
        self._redis.blmove(self._key, self._key, seconds, "RIGHT", "RIGHT")

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _tail(self, key: str) -> list[bytes]:
        """The last messages of a list; what lies there and is no list goes, or nothing would be read again."""
        try:
            return list(self._redis.lrange(key, -AT_ONCE, -1))
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._redis.delete(key)
            prometheus_metrics.DROPPED_MESSAGES.inc()
            log.warning("deleted what lay in place of the queue %s, and was none", key)
            return []
