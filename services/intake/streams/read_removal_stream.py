"""Read the stream of a tenant's removal requests; an entry is deleted once its removal is recorded.

One reader at a time has the lease on a stream. It claims the entries that another one has left.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.redis_streams.stream_commands import PAGE, Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox

MAX_TRIES = 5
"""How often an entry is tried that fails or crashes its reader."""
HELD_PAUSE = 0.5
"""Seconds until the next round if another reader has the lease."""
FAILED_PAUSE = 1.0
"""Seconds until the next round after a failed one."""
NOT_HANDLED = f"it could not be handled {MAX_TRIES} times"

Read = Callable[[str, Entry], Ended | None]
"""Records the removal of a tenant's entry; returns None if the entry must wait."""

log = logging.getLogger(__name__)


def resource(tenant: str) -> str:
    """The name of the lease on a tenant's stream of removal requests."""
    return f"intake-removals:{tenant}"


class RemovalStreamReader:
    """The reader of one process; runs one round of a tenant at a time.

    Args:
        streams: the streams of all tenants.
        leases: the leases in the records.
        duration: of a lease; longer than any write takes.
        read: returns the use case for the active encoder.
        consumer: the reader's name in the consumer groups.
        is_stopping: whether the process is stopping.
    """

    def __init__(
        self,
        streams: Streams,
        leases: Leases,
        duration: timedelta,
        read: Callable[[], Read],
        consumer: str,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._streams, self._leases, self._duration, self._read = streams, leases, duration, read
        self._consumer, self._is_stopping = consumer, is_stopping
        self._tenants: set[str] = set()

    def read_round(self, tenant: str) -> float:
        """Read all requests of a tenant, unless another reader does; returns the seconds until its next round."""
        try:
            with self._leases.held(resource(tenant), self._duration) as lease:
                return HELD_PAUSE if lease is None else self._read_all(tenant, lease)
        except Superseded:
            return HELD_PAUSE

    def leave(self) -> None:
        """Delete this reader from the consumer groups, unless it has pending entries."""
        for tenant in self._tenants:
            with suppress(Unavailable):
                self._streams.remove_consumer(tenant, self._consumer, Inbox.REMOVALS)

    def _read_all(self, tenant: str, lease: Lease) -> float:
        self._tenants.add(tenant)
        entries = self._streams.claim(tenant, self._consumer, Inbox.REMOVALS)
        while True:
            for entry in entries:
                self._leases.renew(lease)
                if self._is_stopping() or not self._is_ended(tenant, entry):
                    return FAILED_PAUSE
            entries = self._streams.read(tenant, self._consumer, PAGE, Inbox.REMOVALS)
            if not entries:
                return 0.0

    def _is_ended(self, tenant: str, entry: Entry) -> bool:
        """Process an entry; the attempt is counted before, so that an entry cannot crash its readers forever."""
        if self._streams.count_attempt(tenant, entry.id, Inbox.REMOVALS) > MAX_TRIES:
            ended: Ended | None = Ended(entry, Result(entry.id, Status.DEAD, reason=NOT_HANDLED))
        else:
            try:
                ended = self._read()(tenant, entry)
            except Unavailable:
                ended = None
            except Exception:
                log.exception("a requested removal could not be recorded")
                return False
        if ended is None:
            self._streams.reset_attempts(tenant, entry.id, Inbox.REMOVALS)
            return False
        self._streams.end(tenant, [ended], Inbox.REMOVALS)
        prometheus_metrics.INTAKE.labels(ended.result.status).inc()
        return True
