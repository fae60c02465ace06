"""MicroBatcher: callers in many threads share the encoder's batches."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from schemas.errors import Unavailable
from services.perception.encoder import Encoder, checked


@dataclass(eq=False)
class _Call:
    """One caller's pictures, and the vectors of those that are done."""

    images: Sequence[PIL.Image.Image]
    taken: int = 0
    done: list[NDArray[np.float32]] = field(default_factory=list)
    answer: "Future[NDArray[np.float32]]" = field(default_factory=Future)


@dataclass(frozen=True)
class _Piece:
    """The part of a call that goes into a batch."""

    call: _Call
    images: Sequence[PIL.Image.Image]


class MicroBatcher:
    """An `Encoder` that hands another one batches: whatever waits when it is free, never waiting for more.

    Callers take turns, so that one with a thousand pictures holds nobody up. A batch that fails is tried again caller
    by caller, so that a picture spoils only its own caller's call.

    The encoder is loaded and used in one thread alone: OpenMP keeps threads for each thread that ever called it, and as
    soon as there are more of them than cores, every operation waits for a thread to wake up (a half more time).

    Args:
        load: makes the encoder; whatever it raises, the constructor raises.
        max_batch: most pictures in a batch, at least 1.
        observe: told of each batch that succeeded: how many pictures, and how many seconds it took.
    """

    def __init__(
        self,
        load: Callable[[], Encoder],
        max_batch: int,
        observe: Callable[[int, float], None] = lambda _size, _seconds: None,
    ) -> None:
        self._max_batch = max_batch
        self._observe = observe
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        loaded: Future[Encoder] = Future()
        self._thread = threading.Thread(target=self._work, args=(load, loaded), name="micro-batcher", daemon=True)
        self._thread.start()
        self._encoder = loaded.result()
        self.name = self._encoder.name
        self.dimension = self._encoder.dimension
        self.side = self._encoder.side

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        """As in `Encoder`; waits for its turn.

        Raises:
            Unavailable: the batcher is closed.
            Exception: whatever the encoder raised for these pictures.
        """
        if not images:
            return np.empty((0, self.dimension), np.float32)
        call = _Call(images)
        with self._changed:
            if self._closed:
                raise Unavailable("the encoder is shutting down; send it again later")
            self._waiting.append(call)
            self._changed.notify()
        return call.answer.result()

    def close(self) -> None:
        """Refuse new calls, finish those that wait, and stop the thread. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self, load: Callable[[], Encoder], loaded: "Future[Encoder]") -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:  # noqa: BLE001 - it is the constructor's
            loaded.set_exception(error)
            return
        while pieces := self._next():
            self._encode(pieces)

    def _next(self) -> list[_Piece]:
        """The next batch; empty when closed and nobody waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            pieces: list[_Piece] = []
            room = self._max_batch
            while room and self._waiting:
                call = self._waiting.popleft()
                images = call.images[call.taken : call.taken + room]
                call.taken += len(images)
                room -= len(images)
                pieces.append(_Piece(call, images))
                if call.taken < len(call.images):
                    self._waiting.append(call)  # behind the others: its next turn is after theirs
            return pieces

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
            self._deliver(piece.call, vectors[: len(piece.images)])
            vectors = vectors[len(piece.images) :]

    def _vectors(self, images: list[PIL.Image.Image]) -> NDArray[np.float32]:
        begun = time.perf_counter()
        vectors = self._encoder.encode(images)
        self._observe(len(images), time.perf_counter() - begun)
        # Any encoder may be behind this, and an answer that is too short would leave a caller waiting for ever.
        return checked(vectors, self.name, len(images), self.dimension)

    def _deliver(self, call: _Call, rows: NDArray[np.float32]) -> None:
        call.done.append(rows)
        if sum(map(len, call.done)) == len(call.images):
            call.answer.set_result(np.concatenate(call.done))

    def _fail(self, call: _Call, error: Exception) -> None:
        with self._changed:
            if call in self._waiting:
                self._waiting.remove(call)  # the rest of its pictures is no use to anyone
        call.answer.set_exception(error)
