"""Where actors stop: before each write and read of the engine, transaction, change of a picture, and call of streams.

The classes themselves are changed while a test runs, so that it does not matter how objects of them were wired.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol
from unittest import mock

from tests.concurrency.clock import Clock
from tests.concurrency.scheduler import check_alive, no_stops, running_actor, stop
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

ENGINE_READS = ("retrieve", "scroll", "scroll_ordered", "export", "count", "facet", "query_batch")
STORE_WRITES = ("write_many", "delete")
THUMBNAIL_CHANGES = ("store_thumbnail", "delete_thumbnail")
STORE_READS = ("read", "exists", "existing", "list")
STREAM_CALLS = (
    "add",
    "claim",
    "read",
    "pending",
    "count_attempt",
    "reset_attempts",
    "end",
    "publish",
    "resolve_accepted",
    "last_id",
    "drop_dead",
)
STREAM_PAGES = ("_pages", "accepted")
QUIET = ("store_pixels", "drop_pixels")
"""No stops of their own: nothing but the actor itself looks at pixels before its next write."""


class Observes(Protocol):
    """Who wants to know of writes."""

    def written(self) -> None:
        """The engine was written to."""

    def committed(self) -> None:
        """The records were."""

    def said(self) -> None:
        """Something may have been said of entries."""


@dataclass
class Observer:
    """Passes on what it is told to whoever wants to know at the moment."""

    to: Observes | None = None

    def written(self) -> None:
        """The engine was written to."""
        if self.to is not None:
            self.to.written()

    def committed(self) -> None:
        """The records were."""
        if self.to is not None:
            self.to.committed()

    def said(self) -> None:
        """Something may have been said of entries."""
        if self.to is not None:
            self.to.said()


@contextmanager
def stops(clock: Clock, observer: Observer) -> Iterator[None]:
    """Actors stop at all of these.

    Args:
        clock: passes while somebody sleeps.
        observer: told of each write, before anybody else can do anything.
    """
    with ExitStack() as changed:

        def change(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
            changed.enter_context(mock.patch.object(owner, name, wrapper(getattr(owner, name))))

        change(EdgeEngine, "write", lambda inner: _engine_write(inner, observer))
        for name in ENGINE_READS:
            change(EdgeEngine, name, lambda inner: _at(f"engine {inner.__name__}", inner))
        for name in STORE_WRITES:
            change(BlobStore, name, lambda inner: _at(f"store {inner.__name__}", inner))
        for name in THUMBNAIL_CHANGES:
            change(PictureStore, name, lambda inner: _at(f"store {inner.__name__}", inner))
        for name in STORE_READS:
            change(BlobStore, name, _quietly)
        for name in QUIET:
            change(PictureStore, name, _quietly)
        for name in STREAM_CALLS:
            change(Streams, name, lambda inner: _at(f"stream {inner.__name__}", inner, observer.said))
        for name in STREAM_PAGES:
            change(Streams, name, _page_by_page)
        change(Database, "write", lambda inner: _transaction("database write", inner, observer))
        change(Database, "read", lambda inner: _transaction("database read", inner))
        change(time, "sleep", lambda inner: _sleep(clock, inner))
        yield


def _at(name: str, inner: Callable[..., Any], after: Callable[[], object] = lambda: None) -> Callable[..., Any]:
    @wraps(inner)
    def call(*arguments: Any, **named: Any) -> Any:
        stop(name)
        with no_stops():  # it may be made of others
            result = inner(*arguments, **named)
            after()
            return result

    return call


def _page_by_page(inner: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @wraps(inner)
    def call(*arguments: Any, **named: Any) -> Iterator[Any]:
        pages = inner(*arguments, **named)
        while True:
            stop("stream page")
            with no_stops():
                page = next(pages, None)
            if page is None:
                return
            yield page

    return call


def _quietly(inner: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(inner)
    def call(*arguments: Any, **named: Any) -> Any:
        check_alive()
        with no_stops():
            return inner(*arguments, **named)

    return call


def _engine_write(inner: Callable[..., Any], observer: Observer) -> Callable[..., Any]:
    @wraps(inner)
    def call(engine: EdgeEngine, writes: Any, *arguments: Any, **named: Any) -> Any:
        writes = list(writes)
        stop("engine " + " and ".join(sorted({type(write).__name__ for write in writes})))
        with no_stops():
            result = inner(engine, writes, *arguments, **named)
            observer.written()
        return result

    return call


def _transaction(name: str, inner: Callable[..., Any], observer: Observer | None = None) -> Callable[..., Any]:
    @wraps(inner)
    @contextmanager
    def call(*arguments: Any, **named: Any) -> Iterator[Any]:
        stop(name)
        with no_stops():  # nobody stands still with a transaction open
            with inner(*arguments, **named) as connection:
                yield connection
            if observer is not None:
                observer.committed()

    return call


def _sleep(clock: Clock, inner: Callable[[float], None]) -> Callable[[float], None]:
    @wraps(inner)
    def sleep(seconds: float) -> None:
        if not running_actor():
            inner(seconds)
            return
        stop("sleep")
        clock.sleep(seconds)

    return sleep
