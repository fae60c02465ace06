"""Serve the streams of all tenants: each has a turn while it has entries, several side by side."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.redis_streams.redis_streams import Streams
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox

POLL = 0.05
"""Seconds between two looks at whether a stream has entries: one call for all tenants."""
FIND_SECONDS = 1.0
"""How often it is looked whether there are further tenants."""
SETTLE_SECONDS = 0.2
FAILED_PAUSE = 5.0

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class StreamReader(Protocol):
    """Reads what is sent to streams of one kind."""

    def read_round(self, tenant: str) -> float:
        """Read a tenant's stream for a while; returns the seconds until its next turn."""

    def leave(self) -> None:
        """Let the streams' groups forget this reader."""


class ReaderLoop:
    """The loop of a process.

    Args:
        streams: of all tenants.
        readers: by what they read; each has threads of its own, so that nobody's images delay a removal.
        settle: says what became of a tenant's accepted entries.
        threads: turns of each reader that are taken side by side.
    """

    def __init__(
        self, streams: Streams, readers: Mapping[Inbox, StreamReader], settle: Callable[[str], object], threads: int
    ) -> None:
        self._streams, self._readers, self._settle = streams, readers, settle
        self._pools = {inbox: ThreadPoolExecutor(threads, thread_name_prefix=inbox) for inbox in readers}
        self._tenants: frozenset[str] = frozenset()
        self._found_at = -FIND_SECONDS
        self._running: set[tuple[Inbox, str]] = set()
        self._due: dict[tuple[Inbox, str], float] = {}

    def run(self, stop: threading.Event) -> None:
        """Serve until told to end; then what is begun is finished."""
        settler = threading.Thread(target=self._settle_until, args=(stop,), name="settle")
        settler.start()
        try:
            while not stop.wait(POLL if _isolated(self._look, failed=False) else FAILED_PAUSE):
                pass
        finally:
            stop.set()
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)
            settler.join()
        for reader in self._readers.values():
            reader.leave()

    def _look(self) -> bool:
        """Give turns to those who have entries; True, for it is done."""
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
        pause = _isolated(partial(self._readers[inbox].read_round, tenant), FAILED_PAUSE)
        self._due[inbox, tenant] = time.monotonic() + pause
        self._running.discard((inbox, tenant))

    def _settle_until(self, stop: threading.Event) -> None:
        while not stop.wait(SETTLE_SECONDS):
            begun = time.monotonic()
            for tenant in _isolated(self._to_settle, set[str]()):
                _isolated(partial(self._settle, tenant), None)
            stop.wait(time.monotonic() - begun)  # at most half of the time, however much there is

    def _to_settle(self) -> set[str]:
        return self._streams.tenants_with_accepted(self._tenants) if self._tenants else set()


def _isolated(do: Callable[[], Result], failed: Result) -> Result:
    """What comes of it; where it fails, that is logged."""
    try:
        return do()
    except Unavailable as error:
        log.warning("the streams are looked at later: %s", kind(error))
    except Exception:
        log.exception("the streams could not be served")
    return failed
