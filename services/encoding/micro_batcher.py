"""MicroBatcher: tenants in many threads share the encoder's batches."""

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
    """An `Encoder` that tenants share."""

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        """As in `Encoder`, for a tenant."""


@dataclass(eq=False)
class _Call:
    """One caller's pictures, and the vectors of those that are done, by the place of the first."""

    tenant: str
    images: Sequence[PIL.Image.Image]
    taken: int = 0
    done: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    answer: "Future[NDArray[np.float32]]" = field(default_factory=Future)


@dataclass(frozen=True)
class _Piece:
    """The part of a call that goes into a batch, from a place on."""

    call: _Call
    start: int
    images: Sequence[PIL.Image.Image]


class MicroBatcher:
    """A `SharedEncoder` that hands an encoder batches of what waits when it is free, up to its batch size.

    Tenants take turns, and so do the callers of each, so that one with a thousand pictures holds nobody up. A batch
    that fails is tried again caller by caller, so that a picture spoils only its own caller's call.

    Args:
        load: makes the encoder; whatever it raises, the constructor raises.
        observe: told of each batch that succeeded: how many pictures, and how many seconds it took.
        side_by_side: how many batches are worked at at once, each in a thread of its own; what waits is shared among
            the threads that are free. At least 1; see `services.infrastructure.processes.cpu_threads`.
        begin: called in each of these threads before its first batch.

    Attributes:
        encoder: what was loaded.
    """

    def __init__(
        self,
        load: Callable[[], Encoder],
        observe: Callable[[int, float], None] = lambda _size, _seconds: None,
        side_by_side: int = 1,
        begin: Callable[[], object] = lambda: None,
    ) -> None:
        self._observe = observe
        self._begin = begin
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
            for number in range(side_by_side)
        ]
        for thread in self._threads:
            thread.start()

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        """As in `SharedEncoder`; waits for its turn.

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
        """Refuse new calls, finish those that wait, and stop the threads. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        self._begin()
        while pieces := self._next():
            self._encode(pieces)

    def _next(self) -> list[_Piece]:
        """The next batch, as large as leaves the others that are free as much; empty when closed and nobody waits."""
        with self._changed:
            self._free += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            pieces: list[_Piece] = []
            number = sum(len(call.images) - call.taken for calls in self._waiting.values() for call in calls)
            room = min(self.batch_size, -(-number // self._free))
            self._free -= 1
            while room and self._waiting:
                pieces.append(self._take(-(-room // len(self._waiting))))
                room -= len(pieces[-1].images)
            if self._waiting:
                self._changed.notify()
            return pieces

    def _take(self, most: int) -> _Piece:
        """So many pictures at most of the tenant whose turn it is; its next turn is after those of the others."""
        tenant, calls = next(iter(self._waiting.items()))
        del self._waiting[tenant]
        call = calls.popleft()
        piece = _Piece(call, call.taken, call.images[call.taken : call.taken + most])
        call.taken += len(piece.images)
        if call.taken < len(call.images):
            calls.append(call)
        if calls:
            self._waiting[tenant] = calls
        return piece

    def _encode(self, pieces: list[_Piece]) -> None:
        try:
            vectors = self._vectors([image for piece in pieces for image in piece.images])
        except Exception as error:  # noqa: BLE001 - it is the callers', and the thread must outlive it
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
        self._observe(len(images), time.perf_counter() - begun)
        # Any encoder may be behind this, and an answer that is too short would leave a caller waiting for ever.
        return check_vectors(vectors, self.name, len(images), self.dimension)

    def _deliver(self, piece: _Piece, rows: NDArray[np.float32]) -> None:
        call = piece.call
        with self._changed:
            call.done[piece.start] = rows
            whole = sum(map(len, call.done.values())) == len(call.images)
        if whole:
            call.answer.set_result(np.concatenate([call.done[start] for start in sorted(call.done)]))

    def _fail(self, call: _Call, error: Exception) -> None:
        with self._changed:
            calls = self._waiting.get(call.tenant, deque())
            if call in calls:
                calls.remove(call)  # the rest of its pictures is no use to anyone
                if not calls:
                    del self._waiting[call.tenant]
            if not call.answer.done():  # another part of it may have failed too
                call.answer.set_exception(error)
