"""Duties that deal with many records: one that fails delays none of the others, and is logged and counted."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.observability import json_logs, prometheus_metrics

log = logging.getLogger(__name__)


@contextmanager
def log_and_continue(duty: str, record: str, ping: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Deal with one record of many.

    Args:
        duty: what is done, for the log and the metric.
        record: what it is done for; nothing that was sent.
        ping: asked after a part did not answer: where it raises, there is no use in going on with the others.
    """
    try:
        yield
    except Unavailable as error:
        prometheus_metrics.FAILED.labels(duty).inc()
        log.warning("%s: %s is left for later: %s", duty, record, json_logs.kind(error))
        ping()
    except Exception:
        prometheus_metrics.FAILED.labels(duty).inc()
        log.exception("%s: %s failed; the others are gone on with", duty, record)
