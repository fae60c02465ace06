"""Configure the Celery app: options of the broker and of the workers."""

from celery import Celery
from kombu.entity import Queue

from visual_memory.services.infrastructure.task_queue.beat_schedule import beat_schedule
from visual_memory.services.infrastructure.task_queue.check_worker_messages import CheckingAMQP
from visual_memory.services.infrastructure.task_queue.task_names import QUEUES, REMEMBER_QUEUE
from visual_memory.services.settings import WorkerSettings

HEALTH_CHECK_SECONDS = 5
"""Seconds without an answer after which workers and beat reconnect to Redis."""


def make_celery(url: str, prefix: str, worker: WorkerSettings, curate_seconds: int = 0) -> Celery:
    """Make the Celery app: JSON messages only, and one prefetched for each thread.

    Args:
        url: of the broker.
        prefix: of all key names in Redis.
        worker: the settings of the workers.
        curate_seconds: interval of checks for whether a memory is due to be judged; 0: never.
    """
    celery = Celery("visual-memory", broker=url, amqp=CheckingAMQP)
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=REMEMBER_QUEUE,
        # A message names its queue; declaring queues would store a routing table in Redis.
        task_queues=[Queue(name, no_declare=True) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_acks_late=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_enable_remote_control=False,  # anyone who can write to Redis could shut workers down with it
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a full Redis answers with an error, and has free memory again later
        broker_transport_options={
            # No list of unacknowledged messages in Redis: the collection is the source of truth, and a lost
            # acknowledgement would block a slot of the worker permanently.
            "ack_emulation": False,
            "global_keyprefix": prefix,
            "priority_steps": [0],  # each further step would be another queue in Redis
            "socket_connect_timeout": 1,
            "socket_timeout": HEALTH_CHECK_SECONDS,  # for answers; blocking waits for messages have no timeout
            "health_check_interval": HEALTH_CHECK_SECONDS,
            "socket_keepalive": True,
        },
        beat_schedule=beat_schedule(worker, curate_seconds),
    )
    return celery
