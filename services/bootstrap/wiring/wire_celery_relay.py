"""What relays messages of Celery to the intake."""

from contextlib import ExitStack

from redis import Redis

from visual_memory.services.bootstrap.wiring.wire_task_queue import intake_queue
from visual_memory.services.infrastructure.processes.private_redis import broker_url, client_url
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.work_leases import Leases
from visual_memory.services.infrastructure.redis_streams.redis_streams import Streams
from visual_memory.services.infrastructure.task_queue.producer_queue import ProducerQueue
from visual_memory.services.intake.streams.celery_relay import WAIT, CeleryRelay
from visual_memory.services.settings import Settings

TIMEOUT = WAIT + 4


def wire_celery_relay(settings: Settings, opened: ExitStack, database: Database, streams: Streams) -> CeleryRelay:
    """The relay; its connections are closed with the context."""
    broker = Redis.from_url(client_url(broker_url(settings)), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
    queue = ProducerQueue(broker, intake_queue(settings))
    opened.callback(queue.close)
    return CeleryRelay(queue, streams.add, Leases(database), settings.intake.celery)
