"""Fill a memory through the engine, and load it with concurrent clients."""

import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Insert, Point, Vectors
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

AT_ONCE = 5_000
CLASSES = 100
PATIENCE = 600
TENANT = "default"


@contextmanager
def serving(encoder: str, vectors: Vectors, **settings: str) -> Iterator[tuple[Client, Memory]]:
    """A temporary service with remembered vectors and an index if it pays off; and its memory.

    Args:
        encoder: its name.
        vectors: float32 [n, d], rows of length 1.
        settings: as for `temporary_service`.
    """
    with TemporaryDirectory(prefix="vm") as folder, temporary_service(Path(folder), **settings) as client:
        engine = EngineOwnerClient(DataPaths(Path(folder)).engine_socket, PATIENCE)
        memory = Memory(engine, encoder, vectors.shape[1], metadata={})
        for start in range(0, len(vectors), AT_ONCE):
            engine.write([Insert(_points(encoder, start, vectors[start : start + AT_ONCE]))])
        engine.compact()  # which makes the index that would come within a minute
        yield client, memory
        memory.close()


def directions(number: int, dimension: int, seed: int = 0) -> Vectors:
    """Random vectors float32 [number, dimension] of length 1."""
    drawn = np.random.default_rng(seed).standard_normal((number, dimension), np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def _points(encoder: str, first: int, vectors: Vectors) -> list[Point]:
    moment = now().isoformat()

    def payload(row: int) -> dict[str, object]:
        labels, name = [f"class-{row % CLASSES}"], f"{row:08}"
        said = {"labels": labels, "label_paths": labels, "picture": name, "content_hash": name, "accepted_at": moment}
        return {"tenant": TENANT, "image_id": name, "state": State.REMEMBERED.value, **said}

    return [
        Point(str(uuid.UUID(int=row)), payload(row), {encoder: vector})
        for row, vector in enumerate(vectors.tolist(), first)
    ]


class Caller:
    """A client with its own connection that uses little CPU.

    It sends requests that were made beforehand: the service is to be measured, and shares its cores with this.
    """

    def __init__(self, client: Client) -> None:
        url = httpx.URL(client.url)
        self._connection = HTTPConnection(url.host, url.port, timeout=PATIENCE)
        self._headers = {"Authorization": f"Bearer {client.key}"}

    def __call__(self, request: httpx.Request) -> None:
        """Send the request and read the whole answer; raise `SystemExit` if it is refused."""
        self._connection.request("POST", request.url.path, request.content, {**self._headers, **request.headers})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise SystemExit(f"the service answered with {answer.status}: {body.decode()}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def request(path: str, **content: Any) -> httpx.Request:
    """Prepare a request; `content` as for `httpx.Client.post`."""
    made = httpx.Request("POST", f"http://service{path}", **content)
    made.read()
    return made


@dataclass(frozen=True)
class Load:
    """Results of concurrent clients: answers per second, and milliseconds at two percentiles."""

    rate: float
    p50: float
    p99: float


def load(client: Client, requests: Sequence[httpx.Request], clients: int, seconds: float) -> Load:
    """Let each client send its next request as soon as it is answered.

    Args:
        client: of the service.
        requests: are sent in turn.
        clients: how many at once.
        seconds: for how long.
    """
    times: list[float] = []
    begun = time.perf_counter()

    def ask(first: int) -> None:
        with closing(Caller(client)) as call:
            for each in islice(cycle(requests), first, None, clients):
                before = time.perf_counter()
                if before >= begun + seconds:
                    return
                call(each)
                times.append(time.perf_counter() - before)

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(ask, range(clients)))
    return Load(len(times) / (time.perf_counter() - begun), *(1e3 * each for each in percentiles(times)))


def percentiles(times: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]
