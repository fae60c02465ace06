"""Prometheus metrics of the streams, measured at each scrape, also while no reader runs."""

from collections.abc import Callable, Collection, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Backlog

OLDEST = "oldest_seconds"
GAUGES: dict[str, tuple[str, Callable[[Backlog], float]]] = {
    "lag": ("Entries on the stream: unread, at work or held up.", lambda backlog: backlog.entries),
    "unread_bytes": ("Bytes of these entries in Redis, about.", lambda backlog: backlog.bytes),
    OLDEST: ("Age of the oldest of these entries.", lambda backlog: backlog.oldest_seconds),
    "dead_letters": ("Entries that could not be accepted and are kept.", lambda backlog: backlog.dead),
    "removals_waiting": ("Removals that were asked for and are not recorded yet.", lambda backlog: backlog.removals),
}


class StreamMetrics(Collector):
    """Collects the backlog of tenants, without naming them; yields nothing if the intake does not answer.

    Args:
        streams: the streams of all tenants.
        tenants: the tenants to collect; None: all that have a stream.
    """

    def __init__(self, streams: Streams, tenants: Collection[str] | None = None) -> None:
        self._streams, self._tenants = streams, tenants

    def of(self, tenant: str) -> "StreamMetrics":
        """The metrics of one tenant."""
        return StreamMetrics(self._streams, [tenant])

    def describe(self) -> list[Metric]:
        """Nothing, so that registering the collector does not query the intake."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All gauges: the sums of the tenants, and the age of the oldest entry of all."""
        try:
            tenants = sorted(self._streams.tenants()) if self._tenants is None else self._tenants
            backlogs = [self._streams.backlog(tenant) for tenant in tenants]
        except Unavailable:
            return
        for name, (meaning, value) in GAUGES.items():
            values = [value(backlog) for backlog in backlogs]
            total = max(values, default=0) if name == OLDEST else sum(values)
            yield GaugeMetricFamily(f"visual_memory_intake_{name}", meaning, total)
