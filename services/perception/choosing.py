"""Which precision and batch size an encoder works with: a short measurement of the network on this machine.

A collection holds vectors that different machines made, each in the way that is fastest there. They stay comparable
because a way is taken by itself only where every probe's vector has a cosine of at least `AGREEMENT` with the exact
one: each then lies within 2.6 degrees of it, so that two machines' similarities to the same neighbour differ by less
than 0.09 even if all errors point the same way. The least of all probes counts, and no quantile, because the probes
are harder than photographs: for the built-in encoder their least cosine is 0.9992, that of 400 photographs 0.9994.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import PIL.Image
from pydantic import BaseModel, Field

from services.perception.network import Features, Forward, Network, Precision, embed, on
from services.perception.probes import probes

AGREEMENT = 0.999
PROBES = 16
SECONDS = 3.0
"""After so long no further batch size is tried."""
RUNS = 3
WORTH = 1.02
"""A batch of twice the size, or half, is better where it is so many times as fast."""
COARSE: dict[str, tuple[Precision, ...]] = {"cpu": ("bfloat16",), "cuda": ("float16", "bfloat16")}
FIRST, LARGEST = {"cpu": 8, "cuda": 64}, {"cpu": 64, "cuda": 1024}

log = logging.getLogger(__name__)


class Choice(BaseModel):
    """How an encoder works on a machine."""

    precision: Precision
    batch_size: int = Field(ge=1)


def choose(network: Network, precision: Precision | Literal["auto"], batch_size: int) -> tuple[Choice, Forward]:
    """The fastest way that agrees with the exact one.

    Args:
        network: the network.
        precision: the only one to take, whatever it gives; ``auto``: any that agrees.
        batch_size: the only one to take; 0: any.

    Returns:
        The choice, and the network as chosen.

    Raises:
        Exception: what the network raises where nothing else is left to take.
    """
    if precision != "auto" and batch_size:
        return Choice(precision=precision, batch_size=batch_size), network.build(precision)
    begun = time.monotonic()
    trial = Trial(network, [network.view.of(probe) for probe in probes(PROBES)])
    size = batch_size or FIRST[trial.kind]
    forwards = dict(trial.agreeing(size)) if precision == "auto" else {precision: network.build(precision)}
    rates = {name: trial.rate(forward, size) for name, forward in forwards.items()}
    chosen = max(rates, key=rates.__getitem__)
    rate = rates[chosen]
    if not batch_size:
        size, rate = trial.climb(forwards[chosen], size, rate, begun + SECONDS)
    log.info("%s: %s in batches of %d, %.0f pictures/s", network.name, chosen, size, rate)
    return Choice(precision=chosen, batch_size=size), forwards[chosen]


@dataclass(frozen=True)
class Trial:
    """A network and the pictures to try it with."""

    network: Network
    pictures: Sequence[PIL.Image.Image]

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.network.device.partition(":")[0]

    def agreeing(self, size: int) -> Iterator[tuple[Precision, Forward]]:
        """The exact network, and every other that agrees with it; the log says which one does not."""
        exact = self.network.build("float32")
        yield "float32", exact
        for precision in COARSE[self.kind]:
            try:
                forward = self.network.build(precision)
                cosine = self.agreement(forward, exact, size)
            except Exception as error:  # noqa: BLE001 - whatever it is, float32 is left
                log.warning("%s: %s is not used: it fails with %s", self.network.name, precision, type(error).__name__)
                continue
            if cosine >= AGREEMENT:
                yield precision, forward
            else:  # so is one that is not a number
                log.warning("%s: %s is not used: its vectors agree to %.4f", self.network.name, precision, cosine)

    def agreement(self, forward: Forward, exact: Forward, size: int) -> float:
        """The least cosine of a picture's two vectors; not a number where one of them is not finite."""
        found, wanted = (embed(each, self._batches(size)) for each in (forward, exact))
        return float((found * wanted).sum(1).min())

    def climb(self, forward: Forward, size: int, rate: float, deadline: float) -> tuple[int, float]:
        """The best batch size and its rate: twice as large for as long as it pays, else half as large."""
        for factor in (2, 0.5):
            start = size
            while 1 <= (other := int(size * factor)) <= LARGEST[self.kind] and time.monotonic() < deadline:
                if (found := self.rate(forward, other)) < rate * WORTH:
                    break
                size, rate = other, found
            if size != start:
                break
        return size, rate

    def rate(self, forward: Forward, size: int) -> float:
        """Pictures per second in batches of this size, at the best of some runs."""
        batch = next(self._batches(size))
        embed(forward, [batch])
        return size / min(_seconds(forward, batch) for _ in range(RUNS))

    def _batches(self, size: int) -> Iterator[Features]:
        """The pictures in batches; they repeat where a batch is larger."""
        pictures = [*self.pictures] * max(1, size // len(self.pictures))
        for start in range(0, len(pictures), size):
            yield on(self.network.prepare(pictures[start : start + size]), self.network.device)


def _seconds(forward: Forward, batch: Features) -> float:
    begun = time.perf_counter()
    embed(forward, [batch])
    return time.perf_counter() - begun
