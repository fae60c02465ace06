"""What comes out of Redis is checked, and written anew, before Celery sees it.

Celery and kombu trust a message: one that is no JSON ends the worker, one with odd headers is never acknowledged and so
takes a thread's place for ever, and headers may ask for more than a task (callbacks, compression, a time far off). So
of each message stays what one of ours holds: a task's name, its arguments, its id, and when it expires.
"""

import base64
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import ResponseError

from visual_memory.schemas.api_key import Tenant
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.task_queue.task_names import QUEUE_OF

MAX_BYTES = 16 * 2**10
"""Ours have about one thousand."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Message:
    """What stays of a message; `expires` is a moment in ISO 8601."""

    task: str
    arguments: Sequence[str]
    id: str
    expires: str | None


def checked_message(raw: bytes, queue: str) -> bytes | None:
    """The message as Celery would have sent it; None where it is not one of ours, which is counted and logged.

    Args:
        raw: as it came out of the queue.
        queue: where it goes back to if the worker ends before it has begun it.
    """
    try:
        return _written(_read(raw), queue)
    except (ValueError, OverflowError, RecursionError) as error:
        prometheus_metrics.DROPPED_MESSAGES.inc()
        log.warning(
            "dropped a message of %d bytes that nobody of this service sent: %s", len(raw), type(error).__name__
        )
        return None


def _read(raw: bytes) -> _Message:
    if len(raw) > MAX_BYTES:
        raise ValueError("too large")
    match json.loads(raw):
        case {
            "headers": {"task": str(task), "id": str(name), **headers},
            "body": str(body),
            "properties": {"body_encoding": "base64"},
            "content-type": "application/json",
        } if task in QUEUE_OF:
            match json.loads(base64.b64decode(body, validate=True)), headers.get("expires"):
                case [list(arguments), dict(named), dict()], (None | str()) as expires if not named:
                    if name.isascii() and all(isinstance(each, str) for each in arguments):
                        return _Message(task, arguments, name, None if expires is None else _moment(expires))
    raise ValueError("not a message of ours")


def _moment(text: str) -> str:
    """A moment as Celery reads it for certain: one that it cannot read may end the worker."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


def _written(message: _Message, queue: str) -> bytes:
    body = json.dumps([message.arguments, {}, {}]).encode()
    headers = {"lang": "py", "task": message.task, "id": message.id, "expires": message.expires, "ignore_result": True}
    delivery: dict[str, Any] = {
        "body_encoding": "base64",
        "correlation_id": message.id,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "delivery_tag": str(uuid.uuid4()),
        "priority": 0,
    }
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": delivery,
        }
    ).encode()


class _CheckingClient(redis.PrefixedStrictRedis):
    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """What Redis answers; a message that is not one of ours is as if none had come."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name != "BRPOP" or not answer:
            return answer
        queue, raw = answer
        message = checked_message(raw, queue.decode())
        return message and (queue, message)


class _CheckingChannel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        """Read the next message; what lies under a queue's name and is no queue goes, or none would be read again."""
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ResponseError:
            with self.conn_or_acquire() as client:
                for queue in self.active_queues:
                    _delete_what_is_no_queue(client, queue)
            raise

    def _get_client(self) -> Any:
        return partial(_CheckingClient, global_keyprefix=self.global_keyprefix)


def _delete_what_is_no_queue(client: Any, queue: str) -> None:
    try:
        client.llen(queue)
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            client.delete(queue)
            prometheus_metrics.DROPPED_MESSAGES.inc()
            log.warning("deleted what lay in place of the queue %s, and was none", queue)


class _CheckingTransport(redis.Transport):
    Channel = _CheckingChannel


class _CheckingConnection(Connection):
    def get_transport_cls(self) -> type[redis.Transport]:
        return _CheckingTransport


class CheckingAMQP(AMQP):  # type: ignore[misc]  # celery ships no types
    """What Celery makes its connections with, so that its workers see checked messages alone."""

    Connection = _CheckingConnection


_TENANT: TypeAdapter[str] = TypeAdapter(Tenant)


def tenant_of(message: Sequence[object]) -> str:
    """The tenant of a message of `TaskQueue.enqueue`.

    Raises:
        InvalidRequest: no tenant has such a name.
    """
    try:
        [tenant] = message
        return _TENANT.validate_python(tenant, strict=True)
    except (ValueError, ValidationError):
        raise InvalidRequest("a message that names no tenant") from None
