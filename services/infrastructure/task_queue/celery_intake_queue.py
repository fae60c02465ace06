"""The broker queue that external Celery producers send images to; a message is deleted once it was handled."""

import logging
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from visual_memory.services.infrastructure.observability import prometheus_metrics

AT_ONCE = 20
"""Messages that are read at once; the largest are 12 MB together."""
PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""Suffixes of queue names by which Celery encodes priorities, the most urgent first."""

log = logging.getLogger(__name__)


class CeleryIntakeQueue:
    """The queue, which one process reads at a time.

    Every method raises `redis.exceptions.RedisError` if the broker does not answer.

    Args:
        broker: a client that does not decode answers, with a timeout longer than any `wait`.
        key: the key of the queue.
    """

    def __init__(self, broker: "Redis", key: str) -> None:
        self._redis: Any = broker  # its types speak of asynchronous clients too
        self._key = key

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """The next messages in order, each with the key of its list."""
        for priority in PRIORITIES:
            key = f"{self._key}{priority}"
            for message in reversed(self._tail(key)):
                yield key, message

    def delete(self, key: str, message: bytes) -> None:
        """Delete a message."""
        self._redis.lrem(key, -1, message)

    def put_last(self, key: str, message: bytes) -> None:
        """Move a message to the end of its list."""
        with self._redis.pipeline() as pipe:
            pipe.lrem(key, -1, message)
            pipe.lpush(key, message)
            pipe.execute()

    def wait(self, seconds: float) -> None:
        """Wait for a message without a priority, for some seconds at most."""
        # moves the next message to the same position, which changes nothing
        self._redis.blmove(self._key, self._key, seconds, "RIGHT", "RIGHT")

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _tail(self, key: str) -> list[bytes]:
        """The last messages of a list; a key of another type is deleted, because it would block the queue."""
        try:
            return list(self._redis.lrange(key, -AT_ONCE, -1))
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._redis.delete(key)
            prometheus_metrics.DROPPED_MESSAGES.inc()
            log.warning("deleted the key %s, which was not a queue", key)
            return []
