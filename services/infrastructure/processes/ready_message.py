"""Send and receive the message that a process is ready, in the protocol of systemd: sd_notify(3)."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ADDRESS = "NOTIFY_SOCKET"
"""The environment variable that names the socket."""
SEND_SECONDS = 1.0
MAX_BYTES = 4096


def send_ready() -> None:
    """Report that this process is ready, if the environment names a socket for that."""
    address = os.environ.get(ADDRESS)
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:  # the receiver may have ended
        link.settimeout(SEND_SECONDS)
        link.sendto(f"READY=1\nMAINPID={os.getpid()}".encode(), address.replace("@", "\0", 1))


class ReadyMessages:
    """The ready messages that arrive at a socket.

    Args:
        receiver: a datagram socket.
    """

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver

    def receive(self) -> Iterator[int]:
        """The ids of the processes that became ready since the last call; does not block."""
        self._receiver.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                fields = dict(
                    line.partition("=")[::2]
                    for line in self._receiver.recv(MAX_BYTES).decode(errors="replace").splitlines()
                )
                if fields.get("READY") == "1" and fields.get("MAINPID", "").isdecimal():
                    yield int(fields["MAINPID"])


@contextmanager
def ready_messages(path: Path) -> Iterator[ReadyMessages]:
    """Listen on a socket at a path while the context is open; an existing file is replaced."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        try:
            yield ReadyMessages(receiver)
        finally:
            path.unlink(missing_ok=True)
