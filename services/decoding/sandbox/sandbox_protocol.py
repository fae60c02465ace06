"""Messages between a process and its decoders: a head in JSON and a body of bytes, both with their lengths before them.

Not pickle, nor `multiprocessing`: what a decoder says is believed no more than the picture that it looks at.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

Header = Mapping[str, Any]

_LENGTHS = struct.Struct("!II")
_MOST_HEAD = 64 * 1024
_BUFFER = 2**20
"""Room for the pixels of a photograph of usual size, as far as the system allows."""


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new channel."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ours, theirs


def send(channel: socket.socket, head: Header, body: bytes = b"", deadline: float | None = None) -> None:
    """Send a message.

    Args:
        channel: one end.
        head: what JSON can say.
        body: fewer than 2**32 bytes.
        deadline: on the monotonic clock, in seconds; None: wait for ever.

    Raises:
        TimeoutError: the other side did not take it in time.
        OSError: the other side is gone.
    """
    text = json.dumps(head).encode()
    for part in (_LENGTHS.pack(len(text), len(body)) + text, body):
        _limit(channel, deadline)
        channel.sendall(part)


def receive(channel: socket.socket, most: int, deadline: float | None = None) -> tuple[dict[str, Any], bytearray]:
    """Receive a message.

    Args:
        channel: one end.
        most: longest body that is taken, in bytes.
        deadline: as for `send`.

    Raises:
        TimeoutError: it was not there in time.
        EOFError, OSError: the other side is gone.
        ValueError: it is no message, or too long.
    """
    head_length, body_length = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size, deadline))
    if head_length > _MOST_HEAD or body_length > most:
        raise ValueError(f"a message of {head_length:,} and {body_length:,} bytes")
    head = json.loads(_exactly(channel, head_length, deadline))
    if not isinstance(head, dict):
        raise ValueError("a head that is no object")  # noqa: TRY004 - whatever is wrong with a message is the same
    return head, _exactly(channel, body_length, deadline)


def _exactly(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
    parts = bytearray(length)
    room = memoryview(parts)
    while room:
        _limit(channel, deadline)
        arrived = channel.recv_into(room)
        if not arrived:
            raise EOFError("the other side is gone")
        room = room[arrived:]
    return parts


def _limit(channel: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)
