"""Enqueue: tells the workers that a tenant has work, or that a job waits; any message may be lost.

The collection is the journal: whatever is lost here is found by the sweep and enqueued again. So nothing in Redis
needs to be durable, and an unreachable Redis stops no acceptance. Who can write to Redis can only cause work that is
due, for a message says no more than whose images wait; but for the queue of what Celery producers send to the intake.
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
"""Seconds that a caller waits for Redis at most; the sweep makes up for a message that could not be sent."""
RETRY_PAUSE = 5.0
"""Seconds for which a Redis that failed is not asked again, so that one which hangs costs few callers their timeout."""
FLAG_SECONDS = 5

log = logging.getLogger(__name__)


class TaskQueue:
    """Enqueues tenants that have work of one kind, and tells how the broker is.

    A tenant has a flag in Redis while a message of its is in the queue, with that message's id; so there is one.

    Args:
        celery: the app that sends.
        url: of the broker, as Celery names it.
        prefix: what the names of all keys in Redis begin with; the app's too.
        task: what is to be done for the tenants.
        seconds: how long a message ahead takes, about. A flag outlives its message's way through the queue: else the
            sweep would enqueue the tenant again and again meanwhile. Workers that are slower still only add a few.
        retry_pause: seconds for which a Redis that failed is not asked again.
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
        """Tell the workers that a tenant has work, unless a message in the queue says so already.

        Returns:
            False where the broker cannot be reached, or could not just now.
        """

        def send() -> None:
            with self._producer() as producer:
                self._enqueue(producer, tenant)

        return self._reached(send)

    def enqueue_again(self, tenants: Iterable[str]) -> int:
        """Enqueue tenants that may have lost their messages; returns how many had none in the queue.

        Where nothing is in the queue each has, whatever its flag says.
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

    def take(self, tenant: str, message_id: str) -> None:
        """Clear the flag of a message that has left the queue, so that what is accepted from now on is enqueued anew.

        The flag of another message of the tenant stays: then that one goes on with the tenant's work.
        """
        key = self._flag_key(tenant)

        def clear() -> None:
            if self._redis.get(key) == message_id.encode():
                self._redis.delete(key)

        self._reached(clear)

    def waiting_messages(self) -> int:
        """How many messages lie in the queue.

        Raises:
            OSError, RedisError: the broker cannot be reached.
        """
        return int(self._redis.llen(f"{self._prefix}{self._queue}"))  # type: ignore[arg-type]  # it is no awaitable here

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _enqueue(self, producer: Any, tenant: str, *, anyway: bool = False) -> bool:
        """Set a tenant's flag and send its message; False where the flag was set, and a message is there."""
        key, message_id = self._flag_key(tenant), str(uuid.uuid4())
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(key, message_id, ex=FLAG_SECONDS, nx=not anyway)
            pipe.llen(f"{self._prefix}{self._queue}")
            pipe.ttl(key)
            is_set, ahead, left = pipe.execute()
        longest = FLAG_SECONDS + math.ceil(ahead * self._seconds)
        if not is_set and ahead:
            if not 0 <= left <= longest:  # the queue is done sooner than was thought, or the flag is none of ours
                self._redis.expire(key, longest)
            return False
        if not is_set:  # in an empty queue is no message, whatever the flag says
            self._redis.set(key, message_id, ex=FLAG_SECONDS)
        if ahead:
            self._redis.expire(key, longest)
        self._celery.send_task(
            self._task, [tenant], queue=self._queue, task_id=message_id, producer=producer, ignore_result=True
        )
        return True

    def _flag_key(self, tenant: str) -> str:
        return f"{self._prefix}queued:{self._queue}:{tenant}"

    def _reached(self, ask: Callable[[], object]) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            ask()
        except (OperationalError, RedisError, OSError) as error:
            log.warning("the broker cannot be reached, the sweep will enqueue it: %s", kind(error))
            self._retry_at = time.monotonic() + self._retry_pause
            return False
        return True

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        """What sends over one connection, made with the first message, that soon gives up on a Redis which hangs."""
        hurried = {"socket_timeout": TIMEOUT, "max_retries": 1, "interval_start": 0, "interval_step": 0}
        with self._celery.connection_for_write(connect_timeout=TIMEOUT, transport_options=hurried) as connection:
            yield self._celery.amqp.Producer(connection, auto_declare=False)
