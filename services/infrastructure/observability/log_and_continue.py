"""Process many records one by one: a failure is logged and counted, and the loop continues with the next."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.observability import json_logs, prometheus_metrics

log = logging.getLogger(__name__)


@contextmanager
def log_and_continue(task: str, record: str, ping: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Process one record of many: suppress and log its error.

    Args:
        task: the name of the task, for the log and the metric.
        record: the name of the record; must not contain anything that was sent.
        ping: called if a component did not answer; raises if it is useless to continue with other records.
    """
    try:
        yield
    except Unavailable as error:
        prometheus_metrics.FAILED.labels(task).inc()
        log.warning("%s: %s is left for later: %s", task, record, json_logs.kind(error))
        ping()
    except Exception:
        prometheus_metrics.FAILED.labels(task).inc()
        log.exception("%s: %s failed; continuing with the others", task, record)
