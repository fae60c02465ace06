"""Start, limit and replace the decoder processes: a bad picture costs its sender time, and no other tenant.

Library process pools do not fit: those that were examined distribute work over one pipe with a lock, which a stopped
child holds indefinitely, and they unpickle what the children send.
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
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox import sandbox_protocol
from visual_memory.services.decoding.sandbox.child_memory_limit import child_memory_limit
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header
from visual_memory.services.infrastructure.processes.fair_queue import FairQueue

REQUEST_HANDLER = "visual_memory.services.decoding.sandbox.sandbox_child:handle_request"
START_SECONDS = 60.0
MALLOC_RETAINED_BYTES = 32 * 2**20
"""Memory that the C library keeps between pictures: fresh pages from the system cost as much time as decoding."""

log = logging.getLogger(__name__)


class SandboxPool:
    """Decoder processes, started on first use and replaced when they fail.

    A free process serves the tenant with the fewest pictures in progress. There is one process more than a tenant may
    use, so that no tenant waits for another's picture.

    Args:
        limits: the largest picture that is accepted.
        seconds: time limit of one picture.
        processes: maximum number of processes for one tenant, at least 1.
        handler: function that answers requests, as ``module:function``; see
            `services.decoding.sandbox.sandbox_child.handle_request`.
        initializer: called first in the thread that starts the processes; they inherit its priority.
        on_start: called at the start of each process with the protections, and whether this system has each.
    """

    def __init__(
        self,
        limits: PictureLimits,
        seconds: float,
        processes: int,
        handler: str = REQUEST_HANDLER,
        initializer: Callable[[], object] = lambda: None,
        on_start: Callable[[Mapping[str, bool]], object] = lambda _protections: None,
    ) -> None:
        self.limits = limits
        self._seconds = seconds
        self.processes = processes
        self._handler = handler
        self._on_start = on_start
        self._closed = False
        self._slots = FairQueue([_Slot() for _ in range(processes + 1)], processes)
        # The kernel ends a child with the thread that started it, not with the process; this thread lives on.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter", initializer=initializer)

    def run(self, tenant: str, request: Header, picture: bytes, max_bytes: int) -> tuple[dict[str, Any], bytearray]:
        """Send a request to a process; waits until one is free.

        Args:
            tenant: for whom.
            request: what to do.
            picture: the bytes of its file.
            max_bytes: the longest body of an answer that is accepted.

        Returns:
            Header and body of the answer; an ``error`` in the header is a code, with a message.

        Raises:
            DecoderFailed: the picture took too much time or memory, or crashed the process.
            Unavailable: no process can be started, or the pool is closed.
        """
        with self._slots.item(tenant) as slot:
            if self._closed:
                raise Unavailable("the decoders are shutting down; send it again later")
            if slot.child is not None and not slot.child.is_idle():  # not the fault of this request
                slot.end()
            child = slot.child = slot.child or self._start()
            try:
                return child.request(request, picture, max_bytes, self._seconds)
            except BaseException as error:
                # The answer may still arrive; it must not reach the next request.
                status = slot.end()
                if isinstance(error, DecoderFailed):
                    log.warning("%s; its exit status is %s", error, status)
                raise

    def close(self) -> None:
        """Wait for the pictures in progress, then end the processes. Closing twice is harmless."""
        self._closed = True
        owners = [f"closing {number}" for number in range(self.processes + 1)]  # because no owner may have all slots
        requested = [self._slots.request(owner) for owner in owners]
        for slot in requested:
            slot.result().end()
        for owner, slot in zip(owners, requested, strict=True):
            self._slots.release(owner, slot)
        self._starter.shutdown()

    def _start(self) -> "_Child":
        configuration = {
            "parent": os.getpid(),
            "limits": asdict(self.limits),
            "memory": child_memory_limit(self.limits),
            "work": self._handler,
        }
        try:
            child = self._starter.submit(_Child, json.dumps(configuration)).result()
        except OSError as error:
            raise Unavailable(f"no decoder can be started: {error}") from error
        try:
            protections = child.wait_until_ready()
        except BaseException as error:
            child.end()
            if isinstance(error, OSError | EOFError | ValueError | LookupError):
                raise Unavailable("a decoder does not start; see the service's log") from error
            raise
        self._on_start(protections)
        return child


class _Child:
    """One process, and our end of its socket."""

    def __init__(self, configuration: str) -> None:
        self._requests = 0
        self._channel, theirs = sandbox_protocol.open_channel()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "visual_memory.services.decoding.sandbox.sandbox_child", configuration],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )

    def is_idle(self) -> bool:
        """Whether the process lives and has sent nothing without a request."""
        return self._process.poll() is None and not wait([self._channel], 0)

    def wait_until_ready(self) -> dict[str, bool]:
        """The protections that it reports; it has seen no picture yet."""
        header, _ = sandbox_protocol.receive(self._channel, 0, time.monotonic() + START_SECONDS)
        return dict(header["protections"])

    def request(
        self, request: Header, picture: bytes, max_bytes: int, seconds: float
    ) -> tuple[dict[str, Any], bytearray]:
        deadline = time.monotonic() + seconds
        self._requests += 1
        try:
            sandbox_protocol.send(self._channel, {**request, "number": self._requests}, picture, deadline)
            header, body = sandbox_protocol.receive(self._channel, max_bytes, deadline)
            if header.pop("number", None) != self._requests:
                raise ValueError("the answer to another request")
        except TimeoutError:
            raise DecoderFailed(f"decoding this picture took more than {seconds:g} s") from None
        except (OSError, EOFError, ValueError):
            raise DecoderFailed("decoding this picture ended the decoder") from None
        if header.get("error") == DecoderFailed.code:
            raise DecoderFailed(str(header.get("message")))
        return header, body

    def end(self) -> int:
        """Kill the process; its exit status."""
        self._channel.close()
        self._process.kill()
        return self._process.wait()


@dataclass
class _Slot:
    """A place for one process, which may not be started yet."""

    child: _Child | None = None

    def end(self) -> int | None:
        """Kill the process, if there is one; its exit status."""
        child, self.child = self.child, None
        return child.end() if child is not None else None


def _environment() -> dict[str, str]:
    """Where modules and libraries are, without the secrets of our own environment."""
    inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    ours = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    malloc = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    return inherited | ours | dict.fromkeys(malloc, str(MALLOC_RETAINED_BYTES))
