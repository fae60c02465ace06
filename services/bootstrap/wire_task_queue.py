"""The Celery app over the Redis that the settings name, or over this machine's own, and what enqueues with it."""

from celery import Celery

from services.access.secret import Secret
from services.infrastructure.task_queue.celery_app import make_celery
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.runtime.redis_server import broker_url
from services.settings import Settings


def celery_of(settings: Settings) -> Celery:
    """The Celery app that sends and takes messages."""
    return make_celery(broker_url(settings), settings.worker, settings.curate.seconds)


def wire_task_queue(settings: Settings, secret: Secret) -> TaskQueue:
    """What tells the workers that something waits."""
    return TaskQueue(celery_of(settings), secret.key("messages"))
