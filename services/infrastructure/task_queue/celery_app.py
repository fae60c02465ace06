"""The Celery app: options of the broker and of the workers."""

from celery import Celery

from services.infrastructure.task_queue.beat_schedule import beat_schedule
from services.infrastructure.task_queue.task_names import COMPACT, CURATE, REMEMBER_QUEUE, SWEEP, TIDY, URGENT_QUEUE
from services.settings import WorkerSettings

HEALTH_CHECK_SECONDS = 5
"""Seconds without an answer after which workers and beat take their connection to Redis for dead, and make another."""


def make_celery(url: str, worker: WorkerSettings, curate_seconds: int = 0) -> Celery:
    """The Celery app that sends and takes messages: JSON only, nothing prefetched beyond one for each thread.

    Args:
        url: of the broker.
        worker: how its workers work.
        curate_seconds: how often it is looked whether a memory is to be judged; 0: never.
    """
    celery = Celery("visual-memory", broker=url)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=REMEMBER_QUEUE,
        task_queues={REMEMBER_QUEUE: {}, URGENT_QUEUE: {}},
        task_routes={name: {"queue": URGENT_QUEUE} for name in (SWEEP, TIDY, COMPACT, CURATE)},
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
            "socket_connect_timeout": 1,
            "socket_timeout": HEALTH_CHECK_SECONDS,  # of an answer that is due: workers wait for messages without it
            "health_check_interval": HEALTH_CHECK_SECONDS,
            "socket_keepalive": True,
        },
        beat_schedule=beat_schedule(worker, curate_seconds),
    )
    return celery
