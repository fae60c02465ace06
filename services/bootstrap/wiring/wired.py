"""The use cases of a process, wired for the encoder that classifies at the moment."""

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

Process = TypeVar("Process")


class Named(Protocol):
    """An encoder, as far as it matters here."""

    @property
    def name(self) -> str:
        """Of its vectors."""


Encoder = TypeVar("Encoder", bound=Named)


class Wired(Generic[Process]):
    """Wires them at once, and anew after a switch; what they were before goes on with what it has begun.

    Whoever takes `current` keeps it to the end of what is asked, so that an answer is wholly of one encoder.

    Args:
        encoder: tells the encoder that classifies.
        wire: wires use cases for one, of plain objects over what the process has opened: none of it is closed.
    """

    def __init__(self, encoder: Callable[[], Encoder], wire: Callable[[Encoder], Process]) -> None:
        self._encoder, self._wire = encoder, wire
        self._wiring = threading.Lock()
        first = encoder()
        self._held = first.name, wire(first)

    def current(self) -> Process:
        """The use cases for the encoder that classifies."""
        name, process = self._held
        encoder = self._encoder()
        if encoder.name == name:
            return process
        with self._wiring:
            if self._held[0] != encoder.name:
                self._held = encoder.name, self._wire(encoder)
            return self._held[1]
