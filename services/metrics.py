"""What Prometheus sees; with ``PROMETHEUS_MULTIPROC_DIR`` set, all processes of a machine are added up."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from schemas.image import State

ACCEPTED = Counter("visual_memory_accepted", "Images that were answered 202.")
REMEMBERED = Counter("visual_memory_remembered", "Images that got their vector.")
REJECTED = Counter("visual_memory_rejected", "Images that could not be remembered.")
REMOVED = Counter("visual_memory_removed", "Images that removals deleted.")
CLASSIFIED = Counter("visual_memory_classified", "Pictures and vectors that were classified.")
BATCH = Histogram("visual_memory_batch_size", "Pictures per encoder batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
STAGE = Histogram(
    "visual_memory_stage_seconds",
    "Time that a stage takes for what it is handed at once.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage: decode, encode, search, accept, remember or forget."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        STAGE.labels(name).observe(time.perf_counter() - begun)


def observe_batch(size: int, seconds: float) -> None:
    """Count one encoder batch: `size` pictures in `seconds`."""
    BATCH.observe(size)
    STAGE.labels("encode").observe(seconds)


class _Held:
    """The images in the collection by state, as a gauge that is the same whichever process is asked."""

    def __init__(self, by_state: Mapping[State, int]) -> None:
        self._by_state = by_state

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' registry asks for."""
        gauge = GaugeMetricFamily("visual_memory_images", "Images in the collection, by state.", labels=["state"])
        for state in State:
            gauge.add_metric([state], self._by_state.get(state, 0))
        yield gauge


def exposition(by_state: Mapping[State, int]) -> bytes:
    """All metrics, with the images in the collection by state, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Held(by_state))
    held = generate_latest(registry)
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest() + held
    everyone = CollectorRegistry()
    MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return generate_latest(everyone) + held
