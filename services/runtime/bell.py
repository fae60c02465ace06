"""The bell: Celery over Redis tells the workers which images wait. It carries ids only, and may lose any of them.

Who can write to Redis could name any tenant's images, so each message is signed, and one that is not is refused.

The collection is the journal: whatever is lost here is found by the sweeper and rung for again. So nothing in Redis
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

from schemas.errors import NotAuthorized, Unavailable
from services.runtime.logs import kind
from services.settings import WorkerSettings

QUEUE = "visual-memory"
URGENT = "visual-memory-urgent"
"""The sweeper's own queue, and that of what it rings for: workers take from both in turn, so no backlog delays it."""
REMEMBER = "visual_memory.remember"
JOB = "visual_memory.job"
SWEEP = "visual_memory.sweep"
TIDY = "visual_memory.tidy"
COMPACT = "visual_memory.compact"
CURATE = "visual_memory.curate"
TIDY_SECONDS = 3600
IMAGES_PER_MESSAGE = 32
PATIENCE = 1.0
"""Seconds that a caller waits for Redis at most; the sweeper makes up for a bell that could not be rung."""
QUIET = 5.0
"""Seconds that nobody rings after the bell failed, so that a Redis which hangs costs few callers their patience."""
SILENCE = 5
"""Seconds without an answer after which workers and beat take their connection to Redis for dead, and make another."""

log = logging.getLogger(__name__)


def make_celery(url: str, worker: WorkerSettings, curate_seconds: int = 0) -> Celery:
    """The Celery app that rings and listens: JSON only, nothing prefetched beyond one each.

    Args:
        url: of the broker.
        worker: how its workers work.
        curate_seconds: how often it is looked whether a memory is to be judged; 0: never.
    """
    curate = {"curate": {"task": CURATE, "schedule": curate_seconds}} if curate_seconds else {}
    celery = Celery("visual-memory", broker=url)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=QUEUE,
        task_queues={QUEUE: {}, URGENT: {}},
        task_routes={name: {"queue": URGENT} for name in (SWEEP, TIDY, COMPACT, CURATE)},
        task_acks_late=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_concurrency=worker.concurrency,
        worker_pool="threads",
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a full Redis answers with an error, and has room again later
        broker_transport_options={
            # No list of what is unacknowledged in Redis: the collection knows better, and an acknowledgement that does
            # not get through would take its place in the worker for ever.
            "ack_emulation": False,
            "socket_connect_timeout": PATIENCE,
            "socket_timeout": SILENCE,  # of an answer that is due: workers wait for messages without it
            "health_check_interval": SILENCE,
            "socket_keepalive": True,
        },
        beat_schedule={
            "sweep": {"task": SWEEP, "schedule": worker.sweep_seconds},
            "tidy": {"task": TIDY, "schedule": TIDY_SECONDS},
            "compact": {"task": COMPACT, "schedule": worker.compact_seconds},
            **curate,
        },
    )
    return celery


class Bell:
    """Rings for images, and tells how the broker is.

    Args:
        celery: the app that rings.
        key: what messages are signed with, the same for all who ring and listen.
    """

    def __init__(self, celery: Celery, key: bytes) -> None:
        self._celery = celery
        self._key = key
        self._quiet_until = 0.0

    def ring(self, tenant: str, image_ids: Sequence[str], queue: str = QUEUE) -> bool:
        """Ask the workers to remember these images; False where the broker cannot be reached, or could not just now."""
        parts = range(0, len(image_ids), IMAGES_PER_MESSAGE)
        return self._send(REMEMBER, tenant, [image_ids[start : start + IMAGES_PER_MESSAGE] for start in parts], queue)

    def ring_job(self, tenant: str, job_id: str) -> bool:
        """Ask the workers to do a job; False as in `ring`."""
        return self._send(JOB, tenant, [[job_id]], QUEUE)

    def _send(self, task: str, tenant: str, messages: Sequence[Sequence[str]], queue: str) -> bool:
        if time.monotonic() < self._quiet_until:
            return False
        try:
            with self._connection() as connection:
                for ids in messages:
                    signed = [tenant, list(ids), self.sign(task, tenant, ids)]
                    self._celery.send_task(task, args=signed, queue=queue, connection=connection)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("the broker cannot be reached, the sweeper will ring later: %s", kind(error))
            self._quiet_until = time.monotonic() + QUIET
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

    def waiting_messages(self, queue: str = QUEUE) -> int:
        """How many messages lie in a queue.

        Raises:
            OSError, OperationalError, RedisError: the broker cannot be reached.
        """
        with self._connection() as connection:
            return int(connection.default_channel.client.llen(queue))

    def find_worker(self) -> None:
        """Return when a worker answers, within a second.

        Raises:
            Unavailable: none does.
        """
        with self._connection() as connection:
            answers = self._celery.control.broadcast(
                "ping", reply=True, limit=1, timeout=PATIENCE, connection=connection
            )
        if not answers:
            raise Unavailable("no worker answers: what is accepted waits until one does")

    def _connection(self) -> Any:
        """A connection that soon gives up on a Redis which is gone or hangs."""
        impatient = {"socket_timeout": PATIENCE, "max_retries": 1, "interval_start": 0, "interval_step": 0}
        return self._celery.connection_for_write(connect_timeout=PATIENCE, transport_options=impatient)
