"""Wire the Celery app, the task queues and the rate limits, over the Redis of the settings or a private one."""

from contextlib import ExitStack

from celery import Celery

from visual_memory.services.access.rate_limits import RateLimits
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.infrastructure.processes.private_redis import broker_url, limits_url
from visual_memory.services.infrastructure.task_queue.celery_app import make_celery
from visual_memory.services.infrastructure.task_queue.enqueue import TaskQueue
from visual_memory.services.infrastructure.task_queue.task_names import INTAKE_QUEUE, REMEMBER, RUN_JOBS
from visual_memory.services.settings import Settings

SLICE_SECONDS = 0.25
JOB_SECONDS = 15.0
"""About how long a slice of pictures, or a job, takes; see `TaskQueue`."""


def key_prefix(settings: Settings) -> str:
    """The prefix of all key names in Redis, different for each service on the same Redis."""
    digest = load_secret(settings).key(f"keys in redis of {settings.store.collection}").hex()[:16]
    return f"{settings.broker.prefix}:{digest}:"


def intake_queue(settings: Settings) -> str:
    """The full name of the broker queue that Celery producers send images to."""
    return f"{key_prefix(settings)}{INTAKE_QUEUE}"


def celery_of(settings: Settings) -> Celery:
    """The Celery app."""
    return make_celery(broker_url(settings), key_prefix(settings), settings.worker, settings.curate.judge_seconds)


def wire_task_queue(settings: Settings, opened: ExitStack) -> TaskQueue:
    """Wire the queue of tenants that have pictures to remember."""
    return _queue(settings, opened, REMEMBER, SLICE_SECONDS)


def wire_job_queue(settings: Settings, opened: ExitStack) -> TaskQueue:
    """Wire the queue of tenants that have jobs."""
    return _queue(settings, opened, RUN_JOBS, JOB_SECONDS)


def wire_rates(settings: Settings) -> RateLimits:
    """Wire the rate limits of API keys, for one event loop."""
    return RateLimits(limits_url(broker_url(settings)), key_prefix(settings))


def _queue(settings: Settings, opened: ExitStack, task: str, seconds: float) -> TaskQueue:
    queue = TaskQueue(celery_of(settings), broker_url(settings), key_prefix(settings), task, seconds)
    opened.callback(queue.close)
    return queue
