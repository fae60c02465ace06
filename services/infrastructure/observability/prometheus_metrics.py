"""Prometheus metrics; with ``PROMETHEUS_MULTIPROC_DIR`` set, those of all processes of a machine are added up.

A tenant sees its own counters and images. Metrics that tenants share (batches, durations of stages) show how busy the
others are, so they are only exposed, with all others, on the operator's port.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from visual_memory.schemas.image import State

ACCEPTED = Counter("visual_memory_accepted", "Images that were answered 202.", ["tenant"])
REMEMBERED = Counter("visual_memory_remembered", "Images that got their vector.", ["tenant"])
REJECTED = Counter("visual_memory_rejected", "Images that could not be remembered.", ["tenant"])
REMOVED = Counter("visual_memory_removed", "Images that removals deleted.", ["tenant"])
CLASSIFIED = Counter("visual_memory_classified", "Pictures and vectors that were classified.", ["tenant"])
INTAKE = Counter("visual_memory_intake", "Entries that left their stream, by their end.", ["tenant", "status"])
FAILED = Counter(
    "visual_memory_failed", "Records that background work could not deal with, and left for later.", ["duty"]
)
MIRROR_FAILURES = Counter(
    "visual_memory_mirror_failures", "Times that the mirror did not take a removal's receipt.", ["tenant"]
)
RELAYED_MESSAGES = Counter("visual_memory_relayed_messages", "Messages of Celery that became entries.", ["tenant"])
DROPPED_MESSAGES = Counter("visual_memory_dropped_messages", "Messages in Redis that were not the service's own.")
PASSED_OVER = Counter("visual_memory_passed_over", "Records of jobs that could not be read, at each look.", ["reason"])
LISTENERS = Gauge("visual_memory_listeners", "Open connections that listen to events.", multiprocess_mode="mostrecent")
DECODER_PROTECTION = Gauge(
    "visual_memory_decoder_protection",
    "Whether decoders are confined by this protection: 0 where the system does not have it.",
    ["protection"],
    multiprocess_mode="min",
)
BATCH = Histogram("visual_memory_batch_size", "Pictures per encoder batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
STAGE = Histogram(
    "visual_memory_stage_seconds",
    "Time that a stage takes for what it is handed at once.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_missing: set[str] = set()
log = logging.getLogger(__name__)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage: decode, encode, search, rerank, accept, remember or forget."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        STAGE.labels(name).observe(time.perf_counter() - begun)


def observe_batch(size: int, seconds: float) -> None:
    """Count one encoder batch: `size` pictures in `seconds`."""
    BATCH.observe(size)
    STAGE.labels("encode").observe(seconds)


def observe_protections(got: Mapping[str, bool]) -> None:
    """Set the gauges of the decoders' protections, and log each one that this system lacks, once."""
    for name, has in got.items():
        DECODER_PROTECTION.labels(name).set(has)
        if not has and name not in _missing:
            _missing.add(name)
            log.warning("decoders are confined without a protection that this system does not have: %s", name)


class _Tenant:
    """The metrics that one tenant may see: its counters, and its images by state."""

    def __init__(self, tenant: str, by_state: Mapping[State, int]) -> None:
        self._tenant = tenant
        self._by_state = by_state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, for the registry."""
        gauge = GaugeMetricFamily(
            "visual_memory_images", "Images in the collection, by state.", labels=["tenant", "state"]
        )
        for state in State:
            gauge.add_metric([self._tenant, state], self._by_state.get(state, 0))
        yield gauge
        for metric in _everything().collect():
            metric.samples = [sample for sample in metric.samples if sample.labels.get("tenant") == self._tenant]
            if metric.samples:
                yield metric


def exposition(tenant: str, by_state: Mapping[State, int], *further: Collector) -> bytes:
    """The metrics of a tenant, with its images by state, in the text format of Prometheus.

    Args:
        tenant: the tenant.
        by_state: the number of its images in each state.
        further: collectors of this tenant's metrics that are measured now.
    """
    registry = CollectorRegistry()
    registry.register(_Tenant(tenant, by_state))
    for each in further:
        registry.register(each)
    return generate_latest(registry)


def serve(port: int, *further: Collector) -> None:
    """Serve all metrics, of all tenants, to the operator, on a port of 127.0.0.1.

    Args:
        port: the port.
        further: collectors of metrics that are measured at each scrape.
    """
    registry = CollectorRegistry()
    for each in (_everything(), *further):
        registry.register(each)
    start_http_server(port, "127.0.0.1", registry)


def _everything() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return registry
