"""Where actors stop: before each write and read of the engine, transaction of the records, and change of a picture.

The classes themselves are changed while a test runs, so that it does not matter how objects of them were wired.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

from services.infrastructure.records.database import Database
from services.memory.blobs import Blobs
from services.memory.embedded.edge import EdgeEngine
from services.memory.pictures import Pictures
from tests.interleaving.clock import Clock
from tests.interleaving.scheduler import check_alive, no_stops, running_actor, stop

ENGINE_READS = ("retrieve", "scroll", "oldest", "export", "count", "facet", "query_batch")
STORE_WRITES = ("write_some", "create", "delete")
STORE_READS = ("read", "read_some", "exists", "existing", "list")
QUIET = ("keep_pixels", "drop_pixels")
"""No stops of their own: nothing but the actor itself looks at pixels before its next write."""

Written = Callable[[EdgeEngine], object]


@contextmanager
def stops(clock: Clock, written: Written = lambda _engine: None) -> Iterator[None]:
    """Actors stop at all of these.

    Args:
        clock: passes while somebody sleeps.
        written: called after each write of an actor to the engine, before anybody else can do anything.
    """
    with ExitStack() as changed:

        def change(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
            changed.enter_context(mock.patch.object(owner, name, wrapper(getattr(owner, name))))

        change(EdgeEngine, "write", lambda inner: _engine_write(inner, written))
        for name in ENGINE_READS:
            change(EdgeEngine, name, lambda inner: _at(f"engine {inner.__name__}", inner))
        for name in STORE_WRITES:
            change(Blobs, name, lambda inner: _at(f"store {inner.__name__}", inner))
        for name in STORE_READS:
            change(Blobs, name, _quietly)
        for name in QUIET:
            change(Pictures, name, _quietly)
        for name in ("write", "read"):
            change(Database, name, lambda inner: _transaction(f"database {inner.__name__}", inner))
        change(time, "sleep", lambda inner: _sleep(clock, inner))
        yield


def _at(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(inner)
    def call(*arguments: Any, **named: Any) -> Any:
        stop(name)
        with no_stops():  # it may be made of others
            return inner(*arguments, **named)

    return call


def _quietly(inner: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(inner)
    def call(*arguments: Any, **named: Any) -> Any:
        check_alive()
        with no_stops():
            return inner(*arguments, **named)

    return call


def _engine_write(inner: Callable[..., Any], written: Written) -> Callable[..., Any]:
    @wraps(inner)
    def call(engine: EdgeEngine, writes: Any, *arguments: Any, **named: Any) -> Any:
        writes = list(writes)
        stop("engine " + " and ".join(sorted({type(write).__name__ for write in writes})))
        with no_stops():
            result = inner(engine, writes, *arguments, **named)
            written(engine)
        return result

    return call


def _transaction(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(inner)
    @contextmanager
    def call(*arguments: Any, **named: Any) -> Iterator[Any]:
        stop(name)
        with no_stops(), inner(*arguments, **named) as connection:  # nobody stands still with a transaction open
            yield connection

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
