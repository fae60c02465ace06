"""Check each message from Redis, and rebuild it, before Celery sees it.

Celery and kombu trust messages: one that is not JSON ends the worker, one with unexpected headers is never acknowledged
and blocks a thread permanently, and headers may request callbacks, compression or a distant start time. So a message is
rebuilt from the four things that the service itself sends: a task's name, its arguments, its id and its expiry.
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
"""Largest accepted message; those of the service have about 1,000 bytes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Message:
    """The checked fields of a message; `expires` is in ISO 8601."""

    task: str
    arguments: Sequence[str]
    id: str
    expires: str | None


def checked_message(raw: bytes, queue: str) -> bytes | None:
    """Rebuild a message as Celery sends it; None if the service cannot have sent it, which is counted and logged.

    Args:
        raw: the message from the queue.
        queue: the queue that it returns to if the worker stops before starting the task.
    """
    try:
        return _written(_read(raw), queue)
    except (ValueError, OverflowError, RecursionError) as error:
        prometheus_metrics.DROPPED_MESSAGES.inc()
        log.warning("dropped a message of %d bytes that the service did not send: %s", len(raw), type(error).__name__)
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
    raise ValueError("not a message of the service")


def _moment(text: str) -> str:
    """Normalise a time to the form that Celery parses: one that it cannot parse may end the worker."""
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
        """Parse an answer of Redis; a message that fails the check is treated as if none had arrived."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name != "BRPOP" or not answer:
            return answer
        queue, raw = answer
        message = checked_message(raw, queue.decode())
        return message and (queue, message)


class _CheckingChannel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        """Read the next message; a key that is no queue is deleted, because it would block the queue."""
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
            log.warning("deleted the key %s, which was not a queue", queue)


class _CheckingTransport(redis.Transport):
    Channel = _CheckingChannel


class _CheckingConnection(Connection):
    def get_transport_cls(self) -> type[redis.Transport]:
        return _CheckingTransport


class CheckingAMQP(AMQP):  # type: ignore[misc]  # celery ships no types
    """Makes connections whose messages are checked."""

    Connection = _CheckingConnection


_TENANT: TypeAdapter[str] = TypeAdapter(Tenant)


def tenant_of(message: Sequence[object]) -> str:
    """The tenant that a message of `TaskQueue.enqueue` names; anyone who can write to Redis may have sent it.

    Raises:
        InvalidRequest: it does not name a valid tenant.
    """
    try:
        [tenant] = message
        return _TENANT.validate_python(tenant, strict=True)
    except (ValueError, ValidationError):
        raise InvalidRequest("a message that names no tenant") from None
