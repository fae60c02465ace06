"""Relay Celery messages to the intake: each becomes an entry on the stream of the tenant that it names.

A message is deleted from its queue once its entry exists. If the relay crashes in between, it becomes two entries of
the same image. Until then it is in the broker only: removals do not reach it, and a broker without persistence may lose
it. The reader of the stream checks its content; an invalid one becomes a dead letter. A message that names no tenant is
dropped, counted and logged.
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
from visual_memory.services.infrastructure.task_queue.check_worker_messages import tenant_of

SOURCE = "celery"
"""The source of relayed events; the ``source`` of a message is that of its image."""
EVERYONE = "*"
RESOURCE = "celery-relay"
LEASE = timedelta(seconds=30)
RENEWED = 10.0
"""Seconds after which the lease is renewed."""
PAUSE = 1.0
"""Seconds until the next try after a failure."""
WAIT = 1.0
"""Longest wait for a message, in seconds, before checking whether the process is stopping."""
MAX_MESSAGE = MAX_EVENT * 4 // 3 + 64 * 2**10
"""Largest message in bytes: the largest event in base64, and the headers of Celery."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CeleryRelay:
    """The use case.

    Attributes:
        queue: the queue of the messages.
        add: adds an event to the stream of a tenant; raises `Unavailable` if that fails.
        tenants: the tenants that messages may name; with `EVERYONE`: all.
        leases: make sure that one relay runs at a time, so that messages are normally not duplicated.
    """

    queue: CeleryIntakeQueue
    add: Callable[[str, bytes], object]
    leases: Leases
    tenants: Collection[str] = (EVERYONE,)

    def run(self, ended: threading.Event) -> None:
        """Relay messages until `ended` is set."""
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
        """Relay some messages; returns how many were relayed or dropped, and how many were moved to the end.

        Raises:
            Unavailable: the intake accepts no entries.
        """
        relayed, left = 0, 0
        for key, message in self.queue.messages():
            try:
                self._put(message)
            except Unavailable as error:
                if isinstance(error, OutOfSpace) or not isinstance(error.__cause__, ResponseError):
                    raise
                self.queue.put_last(key, message)  # only this tenant's stream may be refusing entries
                left += 1
            else:
                self.queue.delete(key, message)
                relayed += 1
        return relayed, left

    def _run(self, lease: Lease, ended: threading.Event) -> None:
        renewed = time.monotonic()
        while not ended.is_set():
            relayed, left = self.relay()
            if left and not relayed:
                ended.wait(PAUSE)
            elif not relayed:
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
        prometheus_metrics.RELAYED_MESSAGES.inc()


def entry_of(raw: bytes) -> tuple[str, bytes]:
    """Convert a message to its tenant and event.

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
        return tenant, message.body.encode()  # unchanged: it is no event, and its dead letter will tell why
    event = {
        "specversion": "1.0",
        "id": named.pop("id", None) or message.id or RESOURCE,
        "source": SOURCE,
        "type": IMAGE,
        **({"dataref": named.pop("dataref")} if "dataref" in named else {}),
        "data": {**named, **({"arguments": message.arguments} if message.arguments else {})},
    }
    return tenant, json.dumps(event, ensure_ascii=False).encode(errors="surrogatepass")
