"""Collect the pictures of callers in many threads into the encoder's batches, fairly among tenants."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.encoding.encoder_contract import Encoder, check_vectors


class SharedEncoder(Encoder, Protocol):
    """An `Encoder` that several tenants share."""

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        """As in `Encoder`, for a tenant."""


@dataclass(eq=False)
class _Call:
    """One caller's pictures; the vectors of finished pieces, by the position of their first picture."""

    tenant: str
    images: Sequence[PIL.Image.Image]
    taken: int = 0
    done: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    answer: "Future[NDArray[np.float32]]" = field(default_factory=Future)


@dataclass(frozen=True)
class _Piece:
    """The part of a call, from position `start`, that goes into one batch."""

    call: _Call
    start: int
    images: Sequence[PIL.Image.Image]


class MicroBatcher:
    """A `SharedEncoder` that fills the encoder's batches with the waiting pictures of all callers.

    Tenants are served round-robin, and so are the callers of each tenant, so that a caller with a thousand pictures
    does not delay the others. A batch that fails is encoded again caller by caller, so that a bad picture fails only
    its own call.

    Args:
        load: returns the encoder; the constructor passes on what it raises.
        on_batch: called after each successful batch with its number of pictures and its duration in seconds.
        threads: how many batches are encoded in parallel, at least 1; free threads share the waiting pictures. See
            `services.infrastructure.processes.cpu_threads`.
        initializer: called in each of these threads before its first batch.

    Attributes:
        encoder: the loaded encoder.
    """

    def __init__(
        self,
        load: Callable[[], Encoder],
        on_batch: Callable[[int, float], None] = lambda _size, _seconds: None,
        threads: int = 1,
        initializer: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_batch = on_batch
        self._initializer = initializer
        self._waiting: dict[str, deque[_Call]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._free = 0
        self.encoder = load()
        self.name = self.encoder.name
        self.dimension = self.encoder.dimension
        self.crop = self.encoder.crop
        self.batch_size = self.encoder.batch_size
        self._threads = [
            threading.Thread(target=self._work, name=f"micro-batcher-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        """As in `SharedEncoder`; waits until all pictures are encoded.

        Raises:
            Unavailable: the batcher is closed.
            Exception: whatever the encoder raised for these pictures.
        """
        if not images:
            return np.empty((0, self.dimension), np.float32)
        call = _Call(tenant, images)
        with self._changed:
            if self._closed:
                raise Unavailable("the encoder is shutting down; send it again later")
            self._waiting.setdefault(tenant, deque()).append(call)
            self._changed.notify()
        return call.answer.result()

    def close(self) -> None:
        """Refuse new calls, finish the waiting ones, and stop the threads. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        self._initializer()
        while pieces := self._next_batch():
            self._encode(pieces)

    def _next_batch(self) -> list[_Piece]:
        """The next batch, sized so that every free thread gets an equal share; empty once closed and done."""
        with self._changed:
            self._free += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            pieces: list[_Piece] = []
            number = sum(len(call.images) - call.taken for calls in self._waiting.values() for call in calls)
            remaining = min(self.batch_size, -(-number // self._free))
            self._free -= 1
            while remaining and self._waiting:
                pieces.append(self._next_piece(-(-remaining // len(self._waiting))))
                remaining -= len(pieces[-1].images)
            if self._waiting:
                self._changed.notify()
            return pieces

    def _next_piece(self, size: int) -> _Piece:
        """At most `size` pictures of the first tenant, which then moves behind the others."""
        tenant, calls = next(iter(self._waiting.items()))
        del self._waiting[tenant]
        call = calls.popleft()
        piece = _Piece(call, call.taken, call.images[call.taken : call.taken + size])
        call.taken += len(piece.images)
        if call.taken < len(call.images):
            calls.append(call)
        if calls:
            self._waiting[tenant] = calls
        return piece

    def _encode(self, pieces: list[_Piece]) -> None:
        try:
            vectors = self._vectors([image for piece in pieces for image in piece.images])
        except Exception as error:  # noqa: BLE001 - raised in the callers' threads; this thread must survive
            if len(pieces) == 1:
                self._fail(pieces[0].call, error)
                return
            for piece in pieces:
                self._encode([piece])
            return
        for piece in pieces:
            self._deliver(piece, vectors[: len(piece.images)])
            vectors = vectors[len(piece.images) :]

    def _vectors(self, images: list[PIL.Image.Image]) -> NDArray[np.float32]:
        begun = time.perf_counter()
        vectors = self.encoder.encode(images)
        self._on_batch(len(images), time.perf_counter() - begun)
        # The encoder may be any; a result that is too short would leave a caller waiting indefinitely.
        return check_vectors(vectors, self.name, len(images), self.dimension)

    def _deliver(self, piece: _Piece, rows: NDArray[np.float32]) -> None:
        call = piece.call
        with self._changed:
            call.done[piece.start] = rows
            complete = sum(map(len, call.done.values())) == len(call.images)
        if complete:
            call.answer.set_result(np.concatenate([call.done[start] for start in sorted(call.done)]))

    def _fail(self, call: _Call, error: Exception) -> None:
        with self._changed:
            calls = self._waiting.get(call.tenant, deque())
            if call in calls:
                calls.remove(call)  # nobody needs the rest of its pictures
                if not calls:
                    del self._waiting[call.tenant]
            if not call.answer.done():  # another piece may have failed too
                call.answer.set_exception(error)
