"""The owner process: opens the folder of an `EdgeEngine` and serves the engine contract over a unix socket.

It does not use `multiprocessing.managers`, whose proxies refer to objects of an owner that may have died, and have no
timeouts.
"""

import gc
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from pathlib import Path
from typing import Any

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.infrastructure.processes.ready_message import send_ready
from visual_memory.services.vector_engines.engine_contract import Engine
from visual_memory.services.vector_engines.engine_owner_protocol import (
    METHODS,
    Message,
    check_socket_path,
    key_file,
    set_timeouts,
)
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

HANDSHAKE_SECONDS = 10.0
DRAIN_SECONDS = 20.0
COMPACT = "compact"
"""The owner does not wait for compactions when it ends: they may take minutes, and the engine stops them."""


def serve(folder: Path, socket_path: Path, floor: int = 0) -> None:
    """Serve the collection in a folder until SIGTERM or SIGINT; then flush, close and return.

    Must run in the main thread of a process. Only this user can read the socket and its key.

    Args:
        folder: of the collection; created if missing.
        socket_path: the socket to listen on, at most 100 bytes; a socket left by a killed owner is replaced.
        floor: bytes that must stay free on the folder's disk, see `EdgeEngine`.

    Raises:
        Unavailable: another process has opened the folder, or the socket's path is too long.
    """
    check_socket_path(socket_path)
    with _ending() as ending:
        engine = EdgeEngine(
            folder, floor
        )  # the folder is locked, so no other owner runs and its old socket can be replaced
        calls = _Calls(engine)
        gc.freeze()  # objects created so far stay
        gc.enable()  # the parent process may have disabled it
        try:
            _listen(calls, socket_path, ending)
        finally:
            calls.drain()
            engine.close()
            socket_path.unlink(missing_ok=True)


@contextmanager
def _ending() -> Iterator[socket.socket]:
    """A socket that receives a byte when SIGTERM or SIGINT arrives.

    The handlers do nothing: Python calls them only when the main thread runs, which would wait for the next caller if
    the signal came just before the wait.
    """
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(-1)


def _listen(calls: "_Calls", path: Path, ending: socket.socket) -> None:
    key = _new_key(path)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        before = os.umask(0o177)
        try:
            server.bind(str(path))
        finally:
            os.umask(before)
        server.listen(128)
        send_ready()
        while ending not in wait([server, ending]):
            connection = Connection(server.accept()[0].detach())
            threading.Thread(target=_serve_connection, args=(connection, key, calls), daemon=True).start()


def _new_key(path: Path) -> bytes:
    key = secrets.token_hex(32).encode()
    temporary = key_file(path).with_suffix(".new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_bytes(key)
    temporary.replace(key_file(path))
    return key


def _serve_connection(connection: Connection, key: bytes, calls: "_Calls") -> None:
    """Serve one caller's connection until it ends; its errors do not affect other callers."""
    with connection:
        try:
            set_timeouts(connection, HANDSHAKE_SECONDS)
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            set_timeouts(connection, 0)
            while True:
                answer = calls.run(connection.recv())
                if answer is None:
                    return  # ending: the caller sees that the connection is closed and calls the next owner
                connection.send(answer)
        except (EOFError, OSError):  # the caller has disconnected, or did not complete the handshake
            return
        except Exception:  # noqa: BLE001 - invalid message or wrong key: close the connection
            return


class _Calls:
    """Runs calls and counts them, so that the engine is closed after the last one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle = threading.Condition()
        self._running = 0
        self._ending = False

    def run(self, message: Message) -> tuple[bool, Any] | None:
        """Run a call; returns whether it succeeded, with its result or its error, or None if the owner is ending."""
        method, arguments, named = message
        with self._idle:
            if self._ending:
                return None
            self._running += method != COMPACT
        try:
            if method not in METHODS:
                raise TypeError(f"{method!r} is not a method of the contract")
            return True, getattr(self._engine, method)(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - the caller handles it
            return False, _sendable(error)
        finally:
            with self._idle:
                self._running -= method != COMPACT
                self._idle.notify_all()

    def drain(self) -> None:
        """Accept no more calls, and wait for those in progress, at most `DRAIN_SECONDS`."""
        with self._idle:
            self._ending = True
            self._idle.wait_for(lambda: self._running == 0, DRAIN_SECONDS)


def _sendable(error: Exception) -> Exception:
    """The error if the caller can unpickle it, else an error with its text."""
    if isinstance(error, VisualMemoryError) or type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
