"""The Celery app over the Redis that the settings name, or over this machine's own, and what enqueues with it."""

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
"""How long a slice of pictures, or a job, takes about; see `TaskQueue`."""


def key_prefix(settings: Settings) -> str:
    """What the names of all keys in Redis begin with: another service on the same Redis has another."""
    digest = load_secret(settings).key(f"keys in redis of {settings.store.collection}").hex()[:16]
    return f"{settings.broker.prefix}:{digest}:"


def intake_queue(settings: Settings) -> str:
    """The queue in the broker that Celery producers send images to, by its whole name."""
    return f"{key_prefix(settings)}{INTAKE_QUEUE}"


def celery_of(settings: Settings) -> Celery:
    """The Celery app that sends and takes messages."""
    return make_celery(broker_url(settings), key_prefix(settings), settings.worker, settings.curate.judge_seconds)


def wire_task_queue(settings: Settings, opened: ExitStack) -> TaskQueue:
    """What tells the workers that a tenant has pictures to remember."""
    return _queue(settings, opened, REMEMBER, SLICE_SECONDS)


def wire_job_queue(settings: Settings, opened: ExitStack) -> TaskQueue:
    """What tells the workers of jobs that a tenant has some."""
    return _queue(settings, opened, RUN_JOBS, JOB_SECONDS)


def wire_rates(settings: Settings) -> RateLimits:
    """What counts what keys may send; for one event loop."""
    return RateLimits(limits_url(broker_url(settings)), key_prefix(settings))


def _queue(settings: Settings, opened: ExitStack, task: str, seconds: float) -> TaskQueue:
    queue = TaskQueue(celery_of(settings), broker_url(settings), key_prefix(settings), task, seconds)
    opened.callback(queue.close)
    return queue
