"""Enqueue: tells the workers which images and jobs wait. Messages carry ids only, and any of them may be lost.

Who can write to Redis could name any tenant's images, so each message is signed, and one that is not is refused.

The collection is the journal: whatever is lost here is found by the sweep and enqueued again. So nothing in Redis
needs to be durable, and an unreachable Redis stops no acceptance.
"""

import hmac
import json
import logging
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from schemas.errors import NotAuthorized
from services.infrastructure.task_queue.task_names import JOB, REMEMBER, REMEMBER_QUEUE
from services.runtime.logs import kind

IMAGES_PER_MESSAGE = 32
TIMEOUT = 1.0
"""Seconds that a caller waits for Redis at most; the sweep makes up for a message that could not be sent."""
RETRY_PAUSE = 5.0
"""Seconds for which a Redis that failed is not asked again, so that one which hangs costs few callers their timeout."""

log = logging.getLogger(__name__)


class TaskQueue:
    """Enqueues images and jobs, and tells how the broker is.

    Args:
        celery: the app that sends.
        key: what messages are signed with, the same for all who send and take them.
    """

    def __init__(self, celery: Celery, key: bytes) -> None:
        self._celery = celery
        self._key = key
        self._retry_at = 0.0

    def enqueue(self, tenant: str, image_ids: Sequence[str], queue: str = REMEMBER_QUEUE) -> bool:
        """Ask the workers to remember these images; False where the broker cannot be reached, or could not just now."""
        parts = range(0, len(image_ids), IMAGES_PER_MESSAGE)
        return self._send(REMEMBER, tenant, [image_ids[start : start + IMAGES_PER_MESSAGE] for start in parts], queue)

    def enqueue_job(self, tenant: str, job_id: str) -> bool:
        """Ask the workers to do a job; False as in `enqueue`."""
        return self._send(JOB, tenant, [[job_id]], REMEMBER_QUEUE)

    def _send(self, task: str, tenant: str, messages: Sequence[Sequence[str]], queue: str) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            with self._connection() as connection:
                for ids in messages:
                    signed = [tenant, list(ids), self.sign(task, tenant, ids)]
                    self._celery.send_task(task, args=signed, queue=queue, connection=connection)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("the broker cannot be reached, the sweep will enqueue it: %s", kind(error))
            self._retry_at = time.monotonic() + RETRY_PAUSE
            return False
        return True

    def sign(self, task: str, tenant: str, ids: Sequence[str]) -> str:
        """The signature of a message: HMAC-SHA256 of its task, tenant and ids, in hex."""
        return hmac.new(self._key, json.dumps([task, tenant, list(ids)]).encode(), sha256).hexdigest()

    def read(self, task: str, message: Sequence[object]) -> tuple[str, list[str]]:
        """The tenant and the ids of a message as a worker gets it.

        Raises:
            NotAuthorized: it is not one that was sent for this task.
        """
        match message:
            case [str(tenant), list(ids), str(signature)] if all(isinstance(each, str) for each in ids):
                if hmac.compare_digest(self.sign(task, tenant, ids).encode(), signature.encode("utf-8", "replace")):
                    return tenant, ids
        raise NotAuthorized("a message without a valid signature: nothing was done for it")

    def waiting_messages(self, queue: str = REMEMBER_QUEUE) -> int:
        """How many messages lie in a queue.

        Raises:
            OSError, OperationalError, RedisError: the broker cannot be reached.
        """
        with self._connection() as connection:
            return int(connection.default_channel.client.llen(queue))

    def _connection(self) -> Any:
        """A connection that soon gives up on a Redis which is gone or hangs."""
        hurried = {"socket_timeout": TIMEOUT, "max_retries": 1, "interval_start": 0, "interval_step": 0}
        return self._celery.connection_for_write(connect_timeout=TIMEOUT, transport_options=hurried)
