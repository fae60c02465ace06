"""From Celery to the intake: messages for one task become entries of the streams of the tenants that they name.

A message leaves its queue once its entry is there; so one whose relay ends in between becomes two entries, which are
the same image. Until then it is in the broker, with all that this means: no removal reaches it, and a broker that
keeps nothing on a disk may lose it. Whatever is wrong with what it says of its image is for the reader to find: its
entry ends among the dead letters. One that names no tenant is dropped, counted and logged.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from redis.exceptions import RedisError, ResponseError

from visual_memory.schemas.errors import InvalidRequest, OutOfSpace, Unavailable
from visual_memory.schemas.intake_event import IMAGE, MAX_EVENT
from visual_memory.schemas.strict_json import check_keys
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.task_queue.celery_intake_message import read_celery_message
from visual_memory.services.infrastructure.task_queue.celery_intake_queue import CeleryIntakeQueue
from visual_memory.services.infrastructure.task_queue.message_check import tenant_of

SOURCE = "celery"
"""What events say that are made of messages; a message's ``source`` is its image's."""
EVERYONE = "*"
RESOURCE = "celery-relay"
LEASE = timedelta(seconds=30)
RENEWED = 10.0
"""Seconds after which the lease is renewed."""
PAUSE = 1.0
"""Seconds until what could not be done is tried again."""
WAIT = 1.0
"""Seconds for which a message is waited for; then it is seen whether the process is to end."""
MAX_MESSAGE = MAX_EVENT * 4 // 3 + 64 * 2**10
"""Bytes of a message: the largest event in base64, and Celery's own headers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CeleryRelay:
    """The use case, with the parts that it needs.

    Attributes:
        queue: of the messages.
        add: puts an event on a tenant's stream; raises `Unavailable` where that cannot be done.
        tenants: that messages may name; `EVERYONE` among them: all.
        leases: there is one relay at a time, so that as a rule no message becomes two entries.
    """

    queue: CeleryIntakeQueue
    add: Callable[[str, bytes], object]
    leases: Leases
    tenants: Collection[str] = (EVERYONE,)

    def run(self, ended: threading.Event) -> None:
        """Relay what comes until the process is to end."""
        while not ended.is_set():
            try:
                with self.leases.held(RESOURCE, LEASE) as lease:
                    if lease is not None:
                        self._run(lease, ended)
            except (Unavailable, RedisError, OSError) as error:
                log.warning("messages of Celery wait: %s", kind(error))
            except Superseded:
                log.warning("another process relays messages of Celery by now")
            except Exception:
                log.exception("messages of Celery wait")
            ended.wait(PAUSE)

    def relay(self) -> tuple[int, int]:
        """Relay some of the messages that are there; how many were dealt with, and how many wait behind the others.

        Raises:
            Unavailable: the intake takes none.
        """
        dealt, left = 0, 0
        for key, message in self.queue.messages():
            try:
                self._put(message)
            except Unavailable as error:
                if isinstance(error, OutOfSpace) or not isinstance(error.__cause__, ResponseError):
                    raise
                self.queue.put_last(key, message)  # it may be this tenant's stream alone that takes nothing
                left += 1
            else:
                self.queue.take(key, message)
                dealt += 1
        return dealt, left

    def _run(self, lease: Lease, ended: threading.Event) -> None:
        renewed = time.monotonic()
        while not ended.is_set():
            dealt, left = self.relay()
            if left and not dealt:
                ended.wait(PAUSE)
            elif not dealt:
                self.queue.wait(WAIT)
            if time.monotonic() - renewed > RENEWED:
                self.leases.renew(lease)
                renewed = time.monotonic()

    def _check(self, tenant: str) -> None:
        if {tenant, EVERYONE}.isdisjoint(self.tenants):
            raise InvalidRequest("messages of Celery may not name this tenant (intake.celery)")

    def _put(self, message: bytes) -> None:
        try:
            tenant, event = entry_of(message)
            self._check(tenant)
        except (ValueError, RecursionError, InvalidRequest) as error:
            prometheus_metrics.DROPPED_MESSAGES.inc()
            log.warning("dropped a message of %d bytes for the intake: %s", len(message), type(error).__name__)
            return
        self.add(tenant, event)
        prometheus_metrics.RELAYED_MESSAGES.labels(tenant).inc()


def entry_of(raw: bytes) -> tuple[str, bytes]:
    """The tenant that a message names, and the event that it becomes.

    Raises:
        ValueError, RecursionError: it is no message for this task.
        InvalidRequest: it names no tenant.
    """
    if len(raw) > MAX_MESSAGE:
        raise ValueError("too large")
    message = read_celery_message(raw)
    named = dict(message.named)
    tenant = tenant_of([named.pop("tenant", None)])
    try:
        check_keys(message.body)
    except InvalidRequest:
        return tenant, message.body.encode()  # as it is, it is no event, and its dead letter says why
    event = {
        "specversion": "1.0",
        "id": named.pop("id", None) or message.id or RESOURCE,
        "source": SOURCE,
        "type": IMAGE,
        **({"dataref": named.pop("dataref")} if "dataref" in named else {}),
        "data": {**named, **({"arguments": message.arguments} if message.arguments else {})},
    }
    return tenant, json.dumps(event, ensure_ascii=False).encode(errors="surrogatepass")
