"""The contract as a caller of the owner process sees it."""

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, cast

from schemas.errors import Unavailable
from services.memory.embedded.wire import checked, key_file, limit
from services.memory.engine import Answer, Compaction, Index, Payload, Point, PointFilter, Search, Shape, Vectors, Write

PAUSE_SECONDS = 0.05
SENDS = 2
"""How often a call is handed over: once more after an owner died with it, not for ever if it is what kills them."""

LONGEST_COMPACTION = 3600.0
"""Seconds."""


class RemoteEngine:
    """An engine in the owner process; survives the owner's restart, because every call may be repeated.

    Args:
        socket_path: where the owner listens, at most 100 bytes.
        timeout: seconds within which a call is answered, or raises `Unavailable`.
        search_timeout: seconds that a search may take beyond that, while the owner answers others.

    Raises:
        Unavailable: the socket's path is too long.
    """

    def __init__(self, socket_path: Path, timeout: float, search_timeout: float = 0.0) -> None:
        self._path = checked(socket_path)
        self._timeout = timeout
        self._search_timeout = search_timeout
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def inspect(self) -> Shape | None:
        """See `Engine.inspect`."""
        return cast(Shape | None, self._call("inspect"))

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """See `Engine.create`."""
        self._call("create", vector, size, indexes)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        self._call("index", indexes)

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """See `Engine.write`."""
        return cast(list[Payload], self._call("write", writes, read, urgent))

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        return cast(list[Payload], self._call("retrieve", ids))

    def scroll(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        return cast(tuple[list[Payload], str | None], self._call("scroll", where, limit, cursor))

    def oldest(self, field: str, where: PointFilter, limit: int) -> list[Payload]:
        """See `Engine.oldest`."""
        return cast(list[Payload], self._call("oldest", field, where, limit))

    def export(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Point], str | None]:
        """See `Engine.export`."""
        return cast(tuple[list[Point], str | None], self._call("export", where, limit, cursor))

    def count(self, where: PointFilter) -> int:
        """See `Engine.count`."""
        return cast(int, self._call("count", where))

    def facet(self, field: str, where: PointFilter) -> dict[str, int]:
        """See `Engine.facet`."""
        return cast(dict[str, int], self._call("facet", field, where))

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """See `Engine.query_batch`."""
        return cast(list[Answer], self._call("query_batch", vectors, search, patience=self._search_timeout))

    def compact(self) -> Compaction:
        """See `Engine.compact`; takes as long as it takes, while the owner answers others."""
        return cast(Compaction, self._call("compact", patience=LONGEST_COMPACTION))

    def recover(self) -> None:
        """See `Engine.recover`."""
        self._call("recover")

    def ping(self) -> None:
        """See `Engine.ping`."""
        self._call("ping")

    def close(self) -> None:
        """Close the connections; the owner lives on."""
        self._forget()

    def _call(self, method: str, *arguments: Any, patience: float = 0.0) -> Any:
        deadline = time.monotonic() + self._timeout
        for _ in range(SENDS):
            connection = self._handed_over((method, arguments), deadline)
            try:
                well, result = self._answer(connection, deadline, patience)
            except (EOFError, ConnectionError):
                connection.close()
                self._forget()  # the others were of the same owner
                continue
            except BaseException:
                connection.close()  # its answer may still come, to nobody
                raise
            with self._lock:
                self._idle.append(connection)
            if well:
                return result
            raise result
        raise Unavailable("the store ended in the middle of the call; send it again")

    def _answer(self, connection: Connection, deadline: float, patience: float) -> tuple[bool, Any]:
        last = deadline + patience
        while not connection.poll(max(0.0, deadline - time.monotonic())):
            if deadline >= last:
                raise Unavailable(f"the store did not answer within {self._timeout + patience:g} s; send it again")
            self.ping()  # raises where the owner answers nobody
            deadline = min(last, time.monotonic() + self._timeout)
        try:
            return cast(tuple[bool, Any], connection.recv())
        except BlockingIOError:
            raise Unavailable("the store stopped in the middle of its answer; send it again") from None

    def _handed_over(self, message: tuple[str, tuple[Any, ...]], deadline: float) -> Connection:
        """A connection that took the message; waits for an owner that is just being restarted."""
        while True:
            connection = None
            try:
                connection = self._pooled() or self._connect()
                connection.send(message)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                self._forget()
                if isinstance(error, BlockingIOError):
                    raise Unavailable(f"the store did not answer within {self._timeout:g} s; send it again") from error
                if not isinstance(error, (OSError, EOFError, AuthenticationError)):
                    raise
                if time.monotonic() > deadline:
                    raise Unavailable(f"the store does not answer ({type(error).__name__}); send it again") from error
                time.sleep(PAUSE_SECONDS)
            else:
                return connection

    def _pooled(self) -> Connection | None:
        with self._lock:
            if self._process != os.getpid():  # a fork must not share its parent's connections
                self._process, self._idle = os.getpid(), []
            return self._idle.pop() if self._idle else None

    def _connect(self) -> Connection:
        """As `multiprocessing.connection.Client`, which would wait for the handshake without a limit."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(self._timeout)
            link.connect(str(self._path))
            link.setblocking(True)
            connection = Connection(link.detach())
        try:
            limit(connection, self._timeout)
            key = key_file(self._path).read_bytes()
            answer_challenge(connection, key)
            deliver_challenge(connection, key)
        except BaseException:
            connection.close()
            raise
        return connection

    def _forget(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
