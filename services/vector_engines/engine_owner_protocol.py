"""The protocol between the owner process and its callers: methods, key file, timeouts of a connection."""

import socket
import struct
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.vector_engines.engine_contract import Engine

Message = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A call: method, positional and keyword arguments."""
METHODS = frozenset(name for name in vars(Engine) if not name.startswith("_")) - {"close"}
MAX_PATH_BYTES = 100


def check_socket_path(path: Path) -> Path:
    """Check the path of a socket, and return it.

    Raises:
        Unavailable: it is too long for a unix socket.
    """
    if len(str(path).encode()) > MAX_PATH_BYTES:
        raise Unavailable(f"the socket's path has over {MAX_PATH_BYTES} bytes; choose a shorter folder: {path}")
    return path


def key_file(path: Path) -> Path:
    """The file with the key that callers must know, next to the socket; readable by this user only."""
    return path.with_name(f"{path.name}.key")


def set_timeouts(connection: Connection, seconds: float) -> None:
    """Limit how long a single read or write may block (0: no limit) before it raises BlockingIOError.

    `Connection.poll` is not enough: a peer that stops in the middle blocks the handshake and large writes.
    """
    interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    # `Connection` has no timeout; it is an option of the socket, which the duplicate shares
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
