"""What the benchmarks of serving share: a memory that is filled through the engine, and clients that ask at once."""

import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from qdrant_client import models

from schemas.image import State, now
from services.cli.own_service import own_service
from services.client import Client
from services.memory.embedded.remote import RemoteEngine
from services.memory.engine import Vectors
from services.memory.memory import Memory
from services.runtime.places import Places

AT_ONCE = 5_000
CLASSES = 100
PATIENCE = 600
TENANT = "default"


@contextmanager
def serving(encoder: str, vectors: Vectors, **settings: str) -> Iterator[tuple[Client, Memory]]:
    """A service of one's own that remembers vectors, with an index where that pays; its memory for a second caller.

    Args:
        encoder: its name.
        vectors: float32 [n, d], rows of length 1.
        settings: as for `own_service`.
    """
    with TemporaryDirectory(prefix="vm") as folder, own_service(Path(folder), **settings) as client:
        engine = RemoteEngine(Places(Path(folder)).engine_socket, PATIENCE)
        memory = Memory(engine, encoder, vectors.shape[1], metadata={})
        for start in range(0, len(vectors), AT_ONCE):
            engine.insert(_points(encoder, start, vectors[start : start + AT_ONCE]))
        engine.compact()  # which makes the index that would come within a minute
        yield client, memory
        memory.close()


def directions(number: int, dimension: int, seed: int = 0) -> Vectors:
    """Random vectors float32 [number, dimension] of length 1."""
    drawn = np.random.default_rng(seed).standard_normal((number, dimension), np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def _points(encoder: str, first: int, vectors: Vectors) -> list[models.PointStruct]:
    moment = now().isoformat()

    def payload(row: int) -> dict[str, object]:
        labels, name = [f"class-{row % CLASSES}"], f"{row:08}"
        said = {"labels": labels, "label_paths": labels, "picture": name, "accepted_at": moment}
        return {"tenant": TENANT, "image_id": name, "state": State.REMEMBERED.value, **said}

    return [
        models.PointStruct(id=str(uuid.UUID(int=row)), vector={encoder: vector}, payload=payload(row))
        for row, vector in enumerate(vectors.tolist(), first)
    ]


@dataclass(frozen=True)
class Load:
    """What clients saw that asked at once: answers per second, and milliseconds at two percentiles."""

    rate: float
    p50: float
    p99: float


def load(client: Client, send: Callable[[httpx.Client, int], object], clients: int, seconds: float) -> Load:
    """Let clients ask one after the other, each as soon as it is answered.

    Args:
        client: of the service.
        send: sends the request of this number.
        clients: how many at once.
        seconds: for how long.
    """
    times: list[float] = []
    begun = time.perf_counter()

    def ask(first: int) -> None:
        headers = {"Authorization": f"Bearer {client.key}"}
        with httpx.Client(base_url=client.url, headers=headers, timeout=60, trust_env=False) as http:
            number = first
            while (before := time.perf_counter()) < begun + seconds:
                send(http, number)
                times.append(time.perf_counter() - before)
                number += clients

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(len(times) / (time.perf_counter() - begun), *(1e3 * each for each in percentiles(times)))


def percentiles(times: Sequence[float]) -> tuple[float, float]:
    """The median, and what 99 of 100 stay below."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]
