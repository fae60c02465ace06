"""What a decoder's process does in tests of its failing: as it should, but for pictures that end in a word."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox import sandbox_child
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header, send

WORK = "tests.support.failing_decoder:work"
_hoard: list[bytes] = []


def decoders(parent: int) -> list[psutil.Process]:
    """The processes that decode for a process."""
    found = []
    for process in psutil.Process(parent).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "visual_memory.services.decoding.sandbox.sandbox_child" in process.cmdline():
                found.append(process)
    return found


def spoilt(picture: bytes, word: str) -> bytes:
    """A picture that is whole to a sound decoder, and does what the word says to one that works as here."""
    return picture + word.encode()


def work(asked: Header, picture: bytes, limits: PictureLimits) -> tuple[dict[str, Any], bytes]:
    word = next((word for word in _FAULTS if picture.endswith(word.encode())), None)
    if word is None:
        return sandbox_child.handle_request(asked, picture, limits)
    answer = _FAULTS[word]()
    return answer if isinstance(answer, tuple) else sandbox_child.handle_request(asked, picture, limits)


def _hang() -> None:
    while True:
        time.sleep(0.01)


def _hold_all_memory() -> None:
    """All but so little that a picture of some size finds no room."""
    size = 2**26
    while size >= 2**16:
        try:
            _hoard.append(bytes(size))
        except MemoryError:
            size //= 2


def _speak_first() -> None:
    """An answer that nobody asked for; the one that was asked for follows."""
    channel = socket.socket(fileno=sys.stdin.fileno())
    send(channel, {"size": [1, 1]}, bytes(3))
    channel.detach()


def _speak_when_told() -> None:
    """An answer once more, at a signal; then it stands still, so that it can be seen."""

    def speak(_number: int, _frame: object) -> None:
        _speak_first()
        os.kill(os.getpid(), signal.SIGSTOP)

    signal.signal(signal.SIGUSR1, speak)


def _try_everything() -> tuple[dict[str, Any], bytes]:
    """What is forbidden by the kernel's word, or allowed."""
    tries: dict[str, Callable[[], object]] = {
        "read": Path("/etc/hostname").read_bytes,
        "write": lambda: Path("/tmp/decoder").write_bytes(b"here"),
        "socket": socket.socket,
        "fork": lambda: os.fork() or os._exit(0),
        "run": lambda: os.execv("/bin/true", ["true"]),
        "start a thread": lambda: threading.Thread(target=int).start(),
        "raise the limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    }
    told = {}
    for name, attempt in tries.items():
        try:
            attempt()
            told[name] = "allowed"
        except (OSError, ValueError) as error:
            told[name] = type(error).__name__
    return {"told": told, "modules": sorted(sys.modules), "environment": dict(os.environ)}, b""


_FAULTS: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(0),
    "raise": lambda: int("no number"),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": _hang,
    "eat": _hold_all_memory,
    "speak first": _speak_first,
    "speak when told": _speak_when_told,
    "try": _try_everything,
    "who": lambda: ({"pid": os.getpid()}, b""),
    "lie about size": lambda: ({"size": [1000, 1000]}, b"123"),
    "lie about nothing": lambda: ({"size": [0, 0]}, b""),
    "negative": lambda: ({"size": [-1, -1]}, b"123"),
    "tell nothing": lambda: ({}, b"123"),
    "make up an error": lambda: ({"error": "internal", "message": "gone"}, b""),
    "talk too much": lambda: ({}, bytes(2**24)),
    "talk at length": lambda: ({"size": "x" * 2**17}, b""),
}
