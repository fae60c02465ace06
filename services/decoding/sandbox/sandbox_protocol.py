"""Exchange messages with the decoder processes: a JSON header and a body of bytes, preceded by their lengths.

Neither pickle nor `multiprocessing`: an answer is trusted no more than the picture that it is about.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

Header = Mapping[str, Any]

_LENGTHS = struct.Struct("!II")
_MAX_HEADER_BYTES = 64 * 1024
_BUFFER_BYTES = 2**20
"""Enough for the pixels of a common photograph, as far as the system allows."""


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new socket pair."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs


def send(channel: socket.socket, header: Header, body: bytes = b"", deadline: float | None = None) -> None:
    """Send a message.

    Args:
        channel: one end.
        header: JSON data.
        body: fewer than 2**32 bytes.
        deadline: on the monotonic clock, in seconds; None: wait without limit.

    Raises:
        TimeoutError: the other end did not read it in time.
        OSError: the other end is closed.
    """
    text = json.dumps(header).encode()
    for part in (_LENGTHS.pack(len(text), len(body)) + text, body):
        _set_timeout(channel, deadline)
        channel.sendall(part)


def receive(channel: socket.socket, max_bytes: int, deadline: float | None = None) -> tuple[dict[str, Any], bytearray]:
    """Receive a message.

    Args:
        channel: one end.
        max_bytes: the longest body that is accepted.
        deadline: as for `send`.

    Raises:
        TimeoutError: it did not arrive in time.
        EOFError, OSError: the other end is closed.
        ValueError: it is not a message, or is too long.
    """
    header_length, body_length = _LENGTHS.unpack(_receive_exactly(channel, _LENGTHS.size, deadline))
    if header_length > _MAX_HEADER_BYTES or body_length > max_bytes:
        raise ValueError(f"a message of {header_length:,} and {body_length:,} bytes")
    header = json.loads(_receive_exactly(channel, header_length, deadline))
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")  # noqa: TRY004 - every malformed message is a ValueError
    return header, _receive_exactly(channel, body_length, deadline)


def _receive_exactly(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
    received = bytearray(length)
    remaining = memoryview(received)
    while remaining:
        _set_timeout(channel, deadline)
        number = channel.recv_into(remaining)
        if not number:
            raise EOFError("the other end is closed")
        remaining = remaining[number:]
    return received


def _set_timeout(channel: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)
