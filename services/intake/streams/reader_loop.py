"""The loop of the intake reader: read the streams of all tenants in rounds, several tenants concurrently."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox

POLL = 0.05
"""Interval of checks for streams with entries, in seconds: one call for all tenants."""
FIND_SECONDS = 1.0
"""Interval of searches for new tenants, in seconds."""
PUBLISH_SECONDS = 0.2
FAILED_PAUSE = 5.0

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class StreamReader(Protocol):
    """Reads the streams of one kind."""

    def read_round(self, tenant: str) -> float:
        """Read the stream of a tenant for a while; returns the seconds until its next round."""

    def leave(self) -> None:
        """Delete this reader from the consumer groups."""


class ReaderLoop:
    """The loop of a process.

    Args:
        streams: the streams of all tenants.
        readers: by the kind of stream; each has separate threads, so that images do not delay removals.
        publish: publishes the final results of a tenant's accepted entries.
        threads: how many rounds of each reader run concurrently.
    """

    def __init__(
        self, streams: Streams, readers: Mapping[Inbox, StreamReader], publish: Callable[[str], object], threads: int
    ) -> None:
        self._streams, self._readers, self._publish = streams, readers, publish
        self._pools = {inbox: ThreadPoolExecutor(threads, thread_name_prefix=inbox) for inbox in readers}
        self._tenants: frozenset[str] = frozenset()
        self._found_at = -FIND_SECONDS
        self._running: set[tuple[Inbox, str]] = set()
        self._due: dict[tuple[Inbox, str], float] = {}

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set; rounds that have begun are finished."""
        publisher = threading.Thread(target=self._publish_until, args=(stop,), name="publish")
        publisher.start()
        try:
            while not stop.wait(POLL if _or_default(self._look, failed=False) else FAILED_PAUSE):
                pass
        finally:
            stop.set()
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)
            publisher.join()
        for reader in self._readers.values():
            reader.leave()

    def _look(self) -> bool:
        """Start rounds for tenants that have entries; returns True."""
        if time.monotonic() >= self._found_at + FIND_SECONDS:
            self._tenants, self._found_at = frozenset(self._streams.tenants()), time.monotonic()
        moment = time.monotonic()
        for inbox, pool in self._pools.items():
            due = [each for each in self._tenants if self._due.get((inbox, each), 0.0) <= moment]
            free = [each for each in due if (inbox, each) not in self._running]
            for tenant in self._streams.tenants_with_entries(free, inbox) if free else ():
                self._running.add((inbox, tenant))
                pool.submit(self._read_round, inbox, tenant)
        return True

    def _read_round(self, inbox: Inbox, tenant: str) -> None:
        pause = _or_default(partial(self._readers[inbox].read_round, tenant), FAILED_PAUSE)
        self._due[inbox, tenant] = time.monotonic() + pause
        self._running.discard((inbox, tenant))

    def _publish_until(self, stop: threading.Event) -> None:
        while not stop.wait(PUBLISH_SECONDS):
            begun = time.monotonic()
            for tenant in _or_default(self._tenants_to_publish, set[str]()):
                _or_default(partial(self._publish, tenant), None)
            stop.wait(time.monotonic() - begun)  # at most half of the time, however much there is

    def _tenants_to_publish(self) -> set[str]:
        return self._streams.tenants_with_accepted(self._tenants) if self._tenants else set()


def _or_default(do: Callable[[], Result], failed: Result) -> Result:
    """Call a function; if it fails, log the error and return `failed`."""
    try:
        return do()
    except Unavailable as error:
        log.warning("the streams are read later: %s", kind(error))
    except Exception:
        log.exception("the streams could not be served")
    return failed
