"""Enqueue tenants that have pictures to remember or jobs to run.

The collection is the journal: the sweep finds work whose message was lost and enqueues it again. So Redis need not be
durable, and images are accepted while it is unreachable. A message contains only the name of a tenant; anyone who can
write to Redis can at most trigger work that is due anyway, except through the queue of Celery producers.
"""

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError
from redis.retry import Retry

from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.processes.private_redis import client_url
from visual_memory.services.infrastructure.task_queue.task_names import QUEUE_OF

TIMEOUT = 1.0
"""Longest wait for Redis, in seconds; the sweep makes up for messages that could not be sent."""
RETRY_PAUSE = 5.0
"""Seconds until a Redis that failed is tried again, so that few callers wait for one that hangs."""
FLAG_SECONDS = 5

log = logging.getLogger(__name__)


class TaskQueue:
    """Enqueues tenants for one task.

    While a tenant has a message in the queue, a flag in Redis holds the id of that message. So it has only one.

    Args:
        celery: the app that sends.
        url: of the broker, as Celery spells it.
        prefix: of all key names in Redis, as in the app.
        task: the name of the task.
        seconds: about how long the handling of one message takes. A flag must outlive its message in the queue, or the
            sweep would enqueue the tenant repeatedly; slower workers only cause a few duplicates.
        retry_pause: seconds until a Redis that failed is tried again.
    """

    def __init__(
        self, celery: Celery, url: str, prefix: str, task: str, seconds: float, retry_pause: float = RETRY_PAUSE
    ) -> None:
        self._celery = celery
        self._prefix = prefix
        self._task = task
        self._queue = QUEUE_OF[task]
        self._seconds = seconds
        self._redis = Redis.from_url(
            client_url(url),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 1, (ConnectionLost,)),  # an idle connection may be of a Redis that was restarted
        )
        self._retry_pause = retry_pause
        self._retry_at = 0.0

    def enqueue(self, tenant: str) -> bool:
        """Enqueue a tenant, unless it has a message in the queue.

        Returns:
            False if the broker cannot be reached, or failed within the last `retry_pause` seconds.
        """

        def send() -> None:
            with self._producer() as producer:
                self._enqueue(producer, tenant)

        return self._reached(send)

    def enqueue_again(self, tenants: Iterable[str]) -> int:
        """Enqueue tenants whose messages may be lost; returns how many had none in the queue.

        If the queue is empty all of them are enqueued, whatever their flags say.
        """
        enqueued = 0

        def send() -> None:
            nonlocal enqueued
            is_empty = not self.waiting_messages()
            with self._producer() as producer:
                for tenant in tenants:
                    enqueued += self._enqueue(producer, tenant, anyway=is_empty)

        self._reached(send)
        return enqueued

    def clear_flag(self, tenant: str, message_id: str) -> None:
        """Clear the flag of a message that was consumed, so that further work of the tenant is enqueued again.

        The flag of another message of the tenant stays: that message will process the further work.
        """
        key = self._flag_key(tenant)

        def clear() -> None:
            if self._redis.get(key) == message_id.encode():
                self._redis.delete(key)

        self._reached(clear)

    def waiting_messages(self) -> int:
        """The number of messages in the queue.

        Raises:
            OSError, RedisError: the broker cannot be reached.
        """
        return int(self._redis.llen(f"{self._prefix}{self._queue}"))  # type: ignore[arg-type]  # it is no awaitable here

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _enqueue(self, producer: Any, tenant: str, *, anyway: bool = False) -> bool:
        """Set a tenant's flag and send its message; False if it has a message in the queue."""
        key, message_id = self._flag_key(tenant), str(uuid.uuid4())
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(key, message_id, ex=FLAG_SECONDS, nx=not anyway)
            pipe.llen(f"{self._prefix}{self._queue}")
            pipe.ttl(key)
            is_set, ahead, left = pipe.execute()
        longest = FLAG_SECONDS + math.ceil(ahead * self._seconds)
        if not is_set and ahead:
            if not 0 <= left <= longest:  # the queue has become shorter, or the flag was set by another program
                self._redis.expire(key, longest)
            return False
        if not is_set:  # an empty queue has no message, whatever the flag says
            self._redis.set(key, message_id, ex=FLAG_SECONDS)
        if ahead:
            self._redis.expire(key, longest)
        self._celery.send_task(
            self._task, [tenant], queue=self._queue, task_id=message_id, producer=producer, ignore_result=True
        )
        return True

    def _flag_key(self, tenant: str) -> str:
        return f"{self._prefix}queued:{self._queue}:{tenant}"

    def _reached(self, call: Callable[[], object]) -> bool:
        """Call Redis; False if it fails or failed just before."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            call()
        except (OperationalError, RedisError, OSError) as error:
            log.warning("the broker cannot be reached; the sweep will enqueue the tenant: %s", kind(error))
            self._retry_at = time.monotonic() + self._retry_pause
            return False
        return True

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        """A producer with one connection and a short timeout; it connects with the first message."""
        options = {"socket_timeout": TIMEOUT, "max_retries": 1, "interval_start": 0, "interval_step": 0}
        with self._celery.connection_for_write(connect_timeout=TIMEOUT, transport_options=options) as connection:
            yield self._celery.amqp.Producer(connection, auto_declare=False)
