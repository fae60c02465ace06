"""Decoding in processes of its own, with limits on memory and time: a picture costs its sender, and nobody else.

Not a library's pool of processes: those that were looked at hand out work over one pipe with a lock, which a child that
stands still keeps for ever, and trust their children by unpickling what these say.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from typing import Any

from visual_memory.schemas.errors import DecoderFailed, Unavailable
from visual_memory.services.decoding.pillow_decode import PictureLimits
from visual_memory.services.decoding.sandbox import sandbox_protocol
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

REQUEST_HANDLER = "visual_memory.services.decoding.sandbox.sandbox_child:handle_request"
START_SECONDS = 60.0
BYTES_PER_PIXEL = 40
"""A TIFF of four channels of 64 bits, the hungriest, takes 36; a JPEG takes 12."""
BASE_BYTES = 64 * 2**20
MALLOC_RETAINED_BYTES = 32 * 2**20
"""Memory that the C library keeps from one picture to the next: fresh pages from the system cost as much as pixels."""
FILE_COPIES = 4
"""How often a file's bytes may lie in memory: as they arrive, as they are read, and as the codec buffers them."""

log = logging.getLogger(__name__)


class SandboxPool:
    """Processes that decode, started when they are first needed and replaced when they fail.

    A process that is free goes to the tenant that has the fewest at work. There is one more than a tenant may have, so
    that no tenant has to wait until another's picture is decoded.

    Args:
        limits: the largest picture that is taken.
        seconds: how long one picture may take.
        processes: how many decode for one tenant at most, at least 1.
        work: what they do, as module:function; see `services.decoding.sandbox.sandbox_child.work`.
        begin: called first in the thread that starts them, whose priority they have.
        observe: told, at the start of each, by what it is confined, and whether this system has that.
    """

    def __init__(
        self,
        limits: PictureLimits,
        seconds: float,
        processes: int,
        work: str = REQUEST_HANDLER,
        begin: Callable[[], object] = lambda: None,
        observe: Callable[[Mapping[str, bool]], object] = lambda _protections: None,
    ) -> None:
        self.limits = limits
        self._seconds = seconds
        self.processes = processes
        self._work = work
        self._observe = observe
        self._closed = False
        self._slots = FairQueue([_Slot() for _ in range(processes + 1)], processes)
        # The kernel ends a child with the thread that started it, not with the process; this thread stays.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter", initializer=begin)

    def run(self, tenant: str, asked: Header, picture: bytes, most: int) -> tuple[dict[str, Any], bytearray]:
        """Have a process answer; waits until one is free.

        Args:
            tenant: for whom.
            asked: what to do.
            picture: the bytes of its file.
            most: longest answer that is taken, in bytes.

        Returns:
            The head and the body of the answer; a head with ``error`` holds a code and a message.

        Raises:
            DecoderFailed: it took too much time or memory, or ended the process.
            Unavailable: no process can be started, or the sandbox is closed.
        """
        with self._slots.item(tenant) as slot:
            if self._closed:
                raise Unavailable("the decoders are shutting down; send it again later")
            if slot.child is not None and not slot.child.is_waiting():  # no fault of the one who asks next
                slot.end()
            child = slot.child = slot.child or self._start()
            try:
                return child.ask(asked, picture, most, self._seconds)
            except BaseException as error:
                # Whatever it was, an answer may be on its way that is not for the next one who asks.
                status = slot.end()
                if isinstance(error, DecoderFailed):
                    log.warning("%s; its exit status is %s", error, status)
                raise

    def close(self) -> None:
        """Wait for what is being decoded, then end the processes. Closing twice is harmless."""
        self._closed = True
        owners = [f"closing {number}" for number in range(self.processes + 1)]  # for no owner may hold all
        taken = [self._slots.request(owner) for owner in owners]
        for slot in taken:
            slot.result().end()
        for owner, slot in zip(owners, taken, strict=True):
            self._slots.release(owner, slot)
        self._starter.shutdown()

    def _start(self) -> "_Child":
        told = {
            "parent": os.getpid(),
            "limits": asdict(self.limits),
            "memory": child_memory_limit(self.limits),
            "work": self._work,
        }
        try:
            child = self._starter.submit(_Child, json.dumps(told)).result()
        except OSError as error:
            raise Unavailable(f"no decoder can be started: {error}") from error
        try:
            protections = child.wait_until_ready()
        except BaseException as error:
            child.end()
            if isinstance(error, OSError | EOFError | ValueError | LookupError):
                raise Unavailable("a decoder does not start; the service's log says why") from error
            raise
        self._observe(protections)
        return child


def child_memory_limit(limits: PictureLimits) -> int:
    """How many bytes a process may take beyond what it has before its first picture."""
    return BASE_BYTES + BYTES_PER_PIXEL * limits.max_pixels + FILE_COPIES * limits.max_bytes


class _Child:
    """One process, and our end of its channel."""

    def __init__(self, told: str) -> None:
        self._asked = 0
        self._channel, theirs = sandbox_protocol.open_channel()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "visual_memory.services.decoding.sandbox.sandbox_child", told],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )

    def is_waiting(self) -> bool:
        """Whether it lives, and has said nothing while nobody asked it."""
        return self._process.poll() is None and not wait([self._channel], 0)

    def wait_until_ready(self) -> dict[str, bool]:
        """By what it says it is confined; it has seen no picture yet."""
        head, _ = sandbox_protocol.receive(self._channel, 0, time.monotonic() + START_SECONDS)
        return dict(head["protections"])

    def ask(self, asked: Header, picture: bytes, most: int, seconds: float) -> tuple[dict[str, Any], bytearray]:
        deadline = time.monotonic() + seconds
        self._asked += 1
        try:
            sandbox_protocol.send(self._channel, {**asked, "number": self._asked}, picture, deadline)
            head, body = sandbox_protocol.receive(self._channel, most, deadline)
            if head.pop("number", None) != self._asked:
                raise ValueError("the answer to another question")
        except TimeoutError:
            raise DecoderFailed(f"decoding this picture took more than {seconds:g} s") from None
        except (OSError, EOFError, ValueError):
            raise DecoderFailed("decoding this picture ended the decoder") from None
        if head.get("error") == DecoderFailed.code:
            raise DecoderFailed(str(head.get("message")))
        return head, body

    def end(self) -> int:
        """End the process, whatever it is doing; its exit status."""
        self._channel.close()
        self._process.kill()
        return self._process.wait()


@dataclass
class _Slot:
    """The place of one process, which may not be there."""

    child: _Child | None = None

    def end(self) -> int | None:
        """End the process, if there is one; its exit status."""
        child, self.child = self.child, None
        return child.end() if child is not None else None


def _environment() -> dict[str, str]:
    """Where modules and libraries are, and none of the secrets that our own environment may hold."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    ours = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    return kept | ours | dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(MALLOC_RETAINED_BYTES))
