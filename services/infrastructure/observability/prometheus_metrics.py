"""Prometheus metrics; with ``PROMETHEUS_MULTIPROC_DIR`` set, those of all processes of a machine are added up.

The metrics of processes name no tenants, and show how busy all of them are, so only the operator's port exposes them. A
tenant sees its images and its usage, both from the memory and the records.
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
from visual_memory.schemas.usage import Measure, UsageDay

ACCEPTED = Counter("visual_memory_accepted", "Images that were answered 202.")
REMEMBERED = Counter("visual_memory_remembered", "Images that got their vector.")
REJECTED = Counter("visual_memory_rejected", "Images that could not be remembered.")
REMOVED = Counter("visual_memory_removed", "Images that removals deleted.")
CLASSIFIED = Counter("visual_memory_classified", "Pictures and vectors that were classified.")
INTAKE = Counter("visual_memory_intake", "Entries that left their stream, by their end.", ["status"])
FAILED = Counter(
    "visual_memory_failed", "Records that background work could not deal with, and left for later.", ["duty"]
)
MIRROR_FAILURES = Counter("visual_memory_mirror_failures", "Times that the mirror did not take a removal's receipt.")
RELAYED_MESSAGES = Counter("visual_memory_relayed_messages", "Messages of Celery that became entries.")
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


class _Tenant(Collector):
    """What one tenant may see: its images by state, and what was counted for it today."""

    def __init__(self, by_state: Mapping[State, int], today: UsageDay) -> None:
        self._by_state, self._today = by_state, today

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, for the registry."""
        images = GaugeMetricFamily("visual_memory_images", "Images in the collection, by state.", labels=["state"])
        for state in State:
            images.add_metric([state], self._by_state.get(state, 0))
        yield images
        usage = GaugeMetricFamily(
            "visual_memory_usage_today", "What was counted since midnight, in UTC.", labels=["measure"]
        )
        for measure in Measure:
            usage.add_metric([measure], getattr(self._today, measure))
        yield usage


def exposition(by_state: Mapping[State, int], today: UsageDay, *further: Collector) -> bytes:
    """The metrics of a tenant, in the text format of Prometheus.

    Args:
        by_state: the number of its images in each state.
        today: what was counted for it today.
        further: collectors of this tenant's metrics that are measured now.
    """
    registry = CollectorRegistry()
    for each in (_Tenant(by_state, today), *further):
        registry.register(each)
    return generate_latest(registry)


def serve(port: int, *further: Collector) -> None:
    """Serve the metrics of the processes to the operator, on a port of 127.0.0.1.

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
