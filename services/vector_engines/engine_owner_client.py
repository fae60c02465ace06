"""The contract as a caller of the owner process sees it."""

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
SHORTEST = 0.05
"""Seconds that a read or write has at least, so that what lies ready is taken even when the time is over."""
SENDS = 2
"""How often a call is handed over: once more after an owner died with it, not for ever if it is what kills them."""
LONGEST_COMPACTION = 3600.0
"""Seconds."""
PING: Message = ("ping", (), {})


class EngineOwnerClient:
    """An engine in the owner process: every method of `engine_contract.Engine` is a call of the same there.

    It survives the owner's restart, because every call may be repeated. Callers do not wait for one another: each has a
    connection of its own.

    Args:
        socket_path: where the owner listens, at most 100 bytes.
        timeout: seconds within which a call is answered, or raises `Unavailable`.
        search_timeout: seconds that a search may take beyond that, while the owner answers others.

    Raises:
        Unavailable: the socket's path is too long.
    """

    def __init__(self, socket_path: Path, timeout: float, search_timeout: float = 0.0) -> None:
        self._path = check_socket_path(socket_path)
        self._timeout = timeout
        self._longer = {"query_batch": search_timeout, "compact": LONGEST_COMPACTION}
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in METHODS:
            raise AttributeError(f"{name!r} is no method of the contract")
        return partial(self._call, name)

    def close(self) -> None:
        """Close the connections; the owner lives on."""
        self._forget()

    def _call(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        deadline = time.monotonic() + self._timeout
        return self._ask((method, arguments, named), deadline, self._longer.get(method, 0.0))

    def _ask(self, message: Message, deadline: float, longer: float = 0.0) -> Any:
        """The answer to a message.

        Args:
            message: is handed over by the deadline.
            deadline: the moment by which the owner answers this, or others.
            longer: seconds after it by which it answers this.
        """
        for _ in range(SENDS):
            connection = self._handed_over(message, deadline)
            try:
                well, result = self._answer(connection, deadline, longer)
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

    def _answer(self, connection: Connection, deadline: float, longer: float) -> tuple[bool, Any]:
        last = deadline + longer
        while not connection.poll(max(0.0, self._look_at(deadline, last) - time.monotonic())):
            if time.monotonic() >= last:
                raise Unavailable(f"the store did not answer within {self._timeout + longer:g} s; send it again")
            self._ask(PING, deadline)  # raises where the owner answers nobody
            deadline = time.monotonic() + self._timeout
        set_timeouts(connection, max(SHORTEST, last - time.monotonic()))
        try:
            return cast(tuple[bool, Any], connection.recv())
        except BlockingIOError:
            raise Unavailable("the store stopped in the middle of its answer; send it again") from None

    def _look_at(self, deadline: float, last: float) -> float:
        """When to ask whether the owner answers others, to know it by the deadline; or when all time is over."""
        return last if last <= deadline else min(last, deadline - self._timeout / 2)

    def _handed_over(self, message: Message, deadline: float) -> Connection:
        """A connection that took the message; waits for an owner that is just being restarted."""
        while True:
            connection = None
            try:
                connection = self._pooled() or self._connect(deadline)
                set_timeouts(connection, max(SHORTEST, deadline - time.monotonic()))
                connection.send(message)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                self._forget()
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
        """As `multiprocessing.connection.Client`, which would wait for the handshake without a limit."""
        left = max(SHORTEST, deadline - time.monotonic())
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

    def _forget(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
