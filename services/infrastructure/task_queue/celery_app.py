"""The Celery app: options of the broker and of the workers."""

from celery import Celery
from kombu.entity import Queue

from visual_memory.services.infrastructure.task_queue.beat_schedule import beat_schedule
from visual_memory.services.infrastructure.task_queue.message_check import CheckingAMQP
from visual_memory.services.infrastructure.task_queue.task_names import QUEUES, REMEMBER_QUEUE
from visual_memory.services.settings import WorkerSettings

HEALTH_CHECK_SECONDS = 5
"""Seconds without an answer after which workers and beat take their connection to Redis for dead, and make another."""


def make_celery(url: str, prefix: str, worker: WorkerSettings, curate_seconds: int = 0) -> Celery:
    """The Celery app that sends and takes messages: JSON only, nothing prefetched beyond one for each thread.

    Args:
        url: of the broker.
        prefix: what the names of all keys in Redis begin with.
        worker: how its workers work.
        curate_seconds: how often it is looked whether a memory is to be judged; 0: never.
    """
    celery = Celery("visual-memory", broker=url, amqp=CheckingAMQP)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=REMEMBER_QUEUE,
        # A message goes straight to the queue that it names; to declare queues would keep a table of routes in Redis.
        task_queues=[Queue(name, no_declare=True) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_acks_late=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_enable_remote_control=False,  # who can write to Redis could shut workers down by it
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a full Redis answers with an error, and has room again later
        broker_transport_options={
            # No list of what is unacknowledged in Redis: the collection knows better, and an acknowledgement that does
            # not get through would take its place in the worker for ever.
            "ack_emulation": False,
            "global_keyprefix": prefix,
            "priority_steps": [0],  # each further one is a queue of its own in Redis
            "socket_connect_timeout": 1,
            "socket_timeout": HEALTH_CHECK_SECONDS,  # of an answer that is due: workers wait for messages without it
            "health_check_interval": HEALTH_CHECK_SECONDS,
            "socket_keepalive": True,
        },
        beat_schedule=beat_schedule(worker, curate_seconds),
    )
    return celery
