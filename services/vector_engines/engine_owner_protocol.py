"""What the owner process and its callers agree on: the methods, the key file, the limits of a connection."""

import socket
import struct
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.vector_engines.engine_contract import Engine

Message = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A call: the method, its arguments by place and by name."""
METHODS = frozenset(name for name in vars(Engine) if not name.startswith("_")) - {"close"}
LONGEST_PATH = 100


def check_socket_path(path: Path) -> Path:
    """A socket's path.

    Raises:
        Unavailable: it is longer than a unix socket's may be.
    """
    if len(str(path).encode()) > LONGEST_PATH:
        raise Unavailable(f"the socket's path has over {LONGEST_PATH} bytes; choose a shorter folder: {path}")
    return path


def key_file(path: Path) -> Path:
    """Where the owner leaves the key that its callers must know: beside the socket, for this user alone."""
    return path.with_name(f"{path.name}.key")


def set_timeouts(connection: Connection, seconds: float) -> None:
    """Let a single read or write wait so long at most (0: for ever), then raise BlockingIOError.

    `Connection.poll` alone is not enough: a peer that stops in the middle blocks the handshake, and a large write.
    """
    interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    # `Connection` has no such option; it is the socket's, which the duplicate shares
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
