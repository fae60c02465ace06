"""Call the engine in the owner process: the engine contract over a unix socket."""

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, cast

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.vector_engines.engine_owner_protocol import (
    METHODS,
    Message,
    check_socket_path,
    key_file,
    set_timeouts,
)

PAUSE_SECONDS = 0.05
MIN_SECONDS = 0.05
"""Minimum timeout of a read or write, so that data that has arrived is read even after the deadline."""
SENDS = 2
"""How often a call is sent: once more if the owner died with it, but no more, in case the call is what kills it."""
COMPACTION_SECONDS = 3600.0
PING: Message = ("ping", (), {})


class EngineOwnerClient:
    """The engine in the owner process: every method of `engine_contract.Engine` is called there.

    It survives a restart of the owner, because every call may be repeated. Concurrent callers do not wait for each
    other: each uses its own connection.

    Args:
        socket_path: socket of the owner, at most 100 bytes.
        timeout: seconds after which a call without an answer raises `Unavailable`.
        search_timeout: further seconds that a search may take while the owner answers other calls.

    Raises:
        Unavailable: the socket's path is too long.
    """

    def __init__(self, socket_path: Path, timeout: float, search_timeout: float = 0.0) -> None:
        self._path = check_socket_path(socket_path)
        self._timeout = timeout
        self._longer = {"query_batch": search_timeout, "compact": COMPACTION_SECONDS}
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in METHODS:
            raise AttributeError(f"{name!r} is not a method of the contract")
        return partial(self._call, name)

    def close(self) -> None:
        """Close the connections; the owner continues to run."""
        self._close_idle()

    def _call(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        deadline = time.monotonic() + self._timeout
        return self._send((method, arguments, named), deadline, self._longer.get(method, 0.0))

    def _send(self, message: Message, deadline: float, longer: float = 0.0) -> Any:
        """Send a message and return its answer.

        Args:
            message: must be sent by the deadline.
            deadline: when the owner must have answered this call or another one.
            longer: seconds after the deadline within which it must answer this call.
        """
        for _ in range(SENDS):
            connection = self._send_on_connection(message, deadline)
            try:
                succeeded, result = self._answer(connection, deadline, longer)
            except (EOFError, ConnectionError):
                connection.close()
                self._close_idle()  # the other connections are to the same owner
                continue
            except BaseException:
                connection.close()  # its answer may still arrive
                raise
            with self._lock:
                self._idle.append(connection)
            if succeeded:
                return result
            raise result
        raise Unavailable("the store ended in the middle of the call; send it again")

    def _answer(self, connection: Connection, deadline: float, longer: float) -> tuple[bool, Any]:
        last = deadline + longer
        while not connection.poll(max(0.0, self._next_check(deadline, last) - time.monotonic())):
            if time.monotonic() >= last:
                raise Unavailable(f"the store did not answer within {self._timeout + longer:g} s; send it again")
            self._send(PING, deadline)  # raises if the owner answers no calls
            deadline = time.monotonic() + self._timeout
        set_timeouts(connection, max(MIN_SECONDS, last - time.monotonic()))
        try:
            return cast(tuple[bool, Any], connection.recv())
        except BlockingIOError:
            raise Unavailable("the store stopped in the middle of its answer; send it again") from None

    def _next_check(self, deadline: float, last: float) -> float:
        """When to check whether the owner answers other calls, early enough for the deadline; at the latest, `last`."""
        return last if last <= deadline else min(last, deadline - self._timeout / 2)

    def _send_on_connection(self, message: Message, deadline: float) -> Connection:
        """Send the message on a connection and return that; wait while the owner restarts."""
        while True:
            connection = None
            try:
                connection = self._pooled() or self._connect(deadline)
                set_timeouts(connection, max(MIN_SECONDS, deadline - time.monotonic()))
                connection.send(message)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                self._close_idle()
                if not isinstance(error, (OSError, EOFError, AuthenticationError)):
                    raise
                if time.monotonic() >= deadline:
                    raise Unavailable(f"the store did not answer within {self._timeout:g} s; send it again") from error
                time.sleep(PAUSE_SECONDS)
            else:
                return connection

    def _pooled(self) -> Connection | None:
        with self._lock:
            if self._process != os.getpid():  # a fork must not share its parent's connections
                self._process, self._idle = os.getpid(), []
            return self._idle.pop() if self._idle else None

    def _connect(self, deadline: float) -> Connection:
        """Connect as `multiprocessing.connection.Client` does, whose handshake has no timeout."""
        left = max(MIN_SECONDS, deadline - time.monotonic())
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(left)
            link.connect(str(self._path))
            link.setblocking(True)
            connection = Connection(link.detach())
        try:
            set_timeouts(connection, left)
            key = key_file(self._path).read_bytes()
            answer_challenge(connection, key)
            deliver_challenge(connection, key)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
