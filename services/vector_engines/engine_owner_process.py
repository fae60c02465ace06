"""The owner process: holds the folder of an EdgeEngine and serves the contract over a unix socket.

Not `multiprocessing.managers`: its proxies name objects of an owner that may have died, and wait without a limit.
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
"""Not waited for at the end: it may take minutes, and the engine breaks it off when it is closed."""


def serve(folder: Path, socket_path: Path, floor: int = 0) -> None:
    """Serve the collection in a folder until SIGTERM or SIGINT; then flush, close and return.

    Must run in a process's main thread. The socket and its key are readable by this user alone.

    Args:
        folder: of the collection; created where missing.
        socket_path: where to listen, at most 100 bytes; a socket left there by a killed owner is replaced.
        floor: bytes that must stay free on the folder's disk, see `EdgeEngine`.

    Raises:
        Unavailable: another process holds the folder, or the socket's path is too long.
    """
    check_socket_path(socket_path)
    with _ending() as ending:
        engine = EdgeEngine(folder, floor)  # from here on no other owner lives: what is left of its socket may go
        calls = _Calls(engine)
        gc.freeze()  # what is there by now stays
        gc.enable()  # where whoever started the process let it rest
        try:
            _listen(calls, socket_path, ending)
        finally:
            calls.drain()
            engine.close()
            socket_path.unlink(missing_ok=True)


@contextmanager
def _ending() -> Iterator[socket.socket]:
    """A socket that receives a byte when a signal asks for the end.

    The handlers do nothing, for Python calls them only once the main thread does something, and it would wait for the
    next caller if the signal came just before it began to wait.
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
            threading.Thread(target=_attend, args=(connection, key, calls), daemon=True).start()


def _new_key(path: Path) -> bytes:
    key = secrets.token_hex(32).encode()
    draft = key_file(path).with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_bytes(key)
    draft.replace(key_file(path))
    return key


def _attend(connection: Connection, key: bytes, calls: "_Calls") -> None:
    """One caller's connection, until it ends: no fault of a caller's may reach the others."""
    with connection:
        try:
            set_timeouts(connection, HANDSHAKE_SECONDS)
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            set_timeouts(connection, 0)
            while True:
                answer = calls.run(connection.recv())
                if answer is None:
                    return  # ending: the caller sees the connection close and asks the next owner
                connection.send(answer)
        except (EOFError, OSError):  # the caller is gone, or never was one
            return
        except Exception:  # noqa: BLE001 - a message that is none, or a wrong key: hang up
            return


class _Calls:
    """The calls in progress, so that the engine is closed after the last of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle = threading.Condition()
        self._running = 0
        self._ending = False

    def run(self, message: Message) -> tuple[bool, Any] | None:
        """Whether a call went well, with its result or its error; None if the owner is ending."""
        method, arguments, named = message
        with self._idle:
            if self._ending:
                return None
            self._running += method != COMPACT
        try:
            if method not in METHODS:
                raise TypeError(f"{method!r} is no method of the contract")
            return True, getattr(self._engine, method)(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - it is the caller's to handle
            return False, _sendable(error)
        finally:
            with self._idle:
                self._running -= method != COMPACT
                self._idle.notify_all()

    def drain(self) -> None:
        """Take no more calls and wait for those in progress, not for ever."""
        with self._idle:
            self._ending = True
            self._idle.wait_for(lambda: self._running == 0, DRAIN_SECONDS)


def _sendable(error: Exception) -> Exception:
    """The error, if its class is known on the other side and made of its message alone; else its text."""
    if isinstance(error, VisualMemoryError) or type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
