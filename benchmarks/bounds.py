"""Measure over HTTP what one tenant's load, equal vectors and connections without a key cost other tenants.

``python -m benchmarks.bounds``; it is no part of ``make bench``. Each row is one measure beside the undisturbed case of
the same run. What is refused, or not done in time, is told in the row's note; its figure is then how long that took.
"""

import io
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import psutil
from typer.testing import CliRunner

from benchmarks.load_clients import directions
from benchmarks.process_costs import family
from benchmarks.result_table import Row, markdown, seconds
from benchmarks.sample_pictures import photographs
from benchmarks.tiny_encoder import tiny_encoder
from visual_memory.services.cli.commands.keys import app
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.encoding.load_encoder import identify
from visual_memory.services.settings import EncoderSettings

EQUAL, ORDINARY, AT_ONCE, DIMENSION = 20_000, 5_000, 1_000, 64
BUILT_IN, NUMBERS = identify(EncoderSettings()).name, 1280
SIXTEEN = 16
PICTURES, JOBS, KNOWN, CONNECTIONS = 600, 100, 256, 520
QUERIES, FILTER_BYTES, GONE, KEPT, STORED = 256, 60 * 2**10, 2_000, 500, 200
PATIENCE = 40.0
"""Seconds before a wait fails."""
FLOOD_SECONDS = 4.0
ROUNDS = 5
MIB = 2**20
GET = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
Rows = Iterator[Row]


class Tenant:
    """A tenant with its own key and connections, without retries.

    Args:
        url: where the API is.
        data: the service's data folder.
        name: of the tenant.
    """

    def __init__(self, url: str, data: Path, name: str) -> None:
        arguments = ["make", name, "--tenant", name, "--scope", "admin", "--json"]
        settings = {"VISUAL_MEMORY_DATA": str(data), "VISUAL_MEMORY_CONFIG": os.devnull}
        made = CliRunner().invoke(app, arguments, env=settings, catch_exceptions=False)
        key = json.loads(made.stdout)["text"]
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False)

    def call(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request; raise if it is refused."""
        return self.http.request(method, path, **content).raise_for_status()

    def add(self, pictures: Sequence[bytes], **fields: str) -> list[str]:
        """Send pictures; return the ids of their images."""
        files = [("files", ("picture", each)) for each in pictures]
        said = {"fields": [json.dumps({"labels": ["any"], **fields})] * len(pictures)}
        return [each["image_id"] for each in self.call("POST", "/v1/images", files=files, data=said).json()["data"]]

    def add_vectors(self, encoder: str, vectors: Any, **fields: str) -> None:
        """Send vectors, float32 [n, d], as numbered images."""
        for start in range(0, len(vectors), AT_ONCE):
            some, file = vectors[start : start + AT_ONCE], io.BytesIO()
            np.save(file, some)
            ids = (f"{fields.get('source', 'image')}-{row:06}" for row in range(start, start + len(some)))
            lines = (json.dumps({"labels": [f"class-{each[-2:]}"], "image_id": each, **fields}) for each in ids)
            files = {"vectors": ("v.npy", file.getvalue()), "fields": ("f.jsonl", "\n".join(lines))}
            sent = partial(self.call, "POST", "/v1/vectors", files=files, data={"encoder": encoder})
            wait(lambda: not failure(sent))  # noqa: B023 - whatever a busy store refuses is only to be there

    def classify(self, picture: bytes) -> httpx.Response:
        """Classify a picture."""
        return self.call("POST", "/v1/classify", files=[("files", ("picture", picture))])

    def ask(self, vectors: Any, **options: Any) -> httpx.Response:
        """Classify vectors, float32 [n, d]."""
        return self.call("POST", "/v1/classify", json={"vectors": vectors.round(6).tolist(), **options})

    def remembered(self, pictures: Sequence[bytes]) -> None:
        """Send pictures, and wait until the last one is remembered."""
        image = self.add(pictures)[-1]
        wait(lambda: self.call("GET", f"/v1/images/{image}").json()["state"] != "waiting")

    def idle(self) -> None:
        """Wait until every picture is remembered."""
        asked = {"filter": json.dumps({"state": "waiting"}), "limit": 1}
        wait(lambda: not self.call("GET", "/v1/images", params=asked).json()["data"])


def main() -> None:
    """Print each row when it is measured, then all rows as a table."""
    begun, rows = time.perf_counter(), []
    print(f"load of the last minute when this began: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="vm") as place:
        model = tiny_encoder(Path(place) / "tiny", DIMENSION)
        for measures, settings in (
            ((known_pictures, picture_behind_pictures, classify_beside_slow, picture_behind_jobs), {}),
            ((equal_vectors, large_answer, removal), {"ENCODER__NAME": str(model)}),
            ((pipelining, idle_connections), {"ENCODER__NAME": str(model)}),
        ):
            with service(CURATE__JUDGE_SECONDS="0", **settings) as tenant:
                for measure in measures:
                    for row in found(measure, tenant):
                        rows.append(row)
                        print(f"{time.perf_counter() - begun:4.0f} s {markdown([row]).splitlines()[-1]}", flush=True)
    print(f"load of the last minute when this ended: {os.getloadavg()[0]:.1f}\n{markdown(rows)}")


def found(measure: Callable[[Callable[[str], "Tenant"]], Rows], tenant: Callable[[str], Tenant]) -> Rows:
    """Run one measurement; a failure becomes a row that says so."""
    try:
        yield from measure(tenant)
    except (httpx.HTTPError, OSError) as error:
        yield Row(measure.__name__, "", float("nan"), note=f"broken off: {error}".splitlines()[0])


@contextmanager
def service(**settings: str) -> Iterator[Callable[[str], Tenant]]:
    """Run a temporary service; yield a function that makes a tenant."""
    with tempfile.TemporaryDirectory(prefix="vm") as folder, temporary_service(Path(folder), **settings) as client:
        yield lambda name: Tenant(client.url, Path(folder), name)


def equal_vectors(tenant: Callable[[str], Tenant]) -> Rows:
    """A query among equal vectors, sixteen at once, and another tenant's query meanwhile."""
    same, other = tenant("equal"), tenant("other")
    vectors = directions(ORDINARY, DIMENSION)
    other.add_vectors("tiny", vectors)
    same.add_vectors("tiny", np.repeat(vectors[:1], EQUAL, axis=0))
    queries = count()

    def ordinary() -> Any:
        return other.ask(directions(1, DIMENSION, seed=next(queries)))

    def sixteen(end: float = 0.0) -> None:
        def repeat(_: int) -> None:
            same.ask(vectors[:1])
            while time.perf_counter() < end:
                same.ask(vectors[:1])

        with ThreadPoolExecutor(SIXTEEN) as threads:
            list(threads.map(repeat, range(SIXTEEN)))

    ordinary(), same.ask(vectors[:1])
    alone = middle(ordinary)
    yield row(
        f"a query among {EQUAL:,} equal vectors",
        middle(lambda: same.ask(vectors[:1])),
        alone,
        f"an ordinary one among {ORDINARY:,}",
    )
    yield row(
        f"{SIXTEEN} such queries at once, until the last is answered",
        middle(sixteen),
        alone,
        f"an ordinary one among {ORDINARY:,}",
    )
    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(sixteen, time.perf_counter() + FLOOD_SECONDS)
        taken: list[float] = []
        refused = ""
        while not busy.done():
            each, why = attempt(ordinary)
            taken, refused = [*taken, each], why or refused
        refused = refused or failure(busy.result)
    stage = f"another tenant's query beside {SIXTEEN} such clients, the slowest of {len(taken)}"
    yield row(stage, (max(taken), refused), alone, "alone")
    yield row(stage.replace("slowest", "median"), (float(np.median(taken)), refused), alone, "alone")


def large_answer(tenant: Callable[[str], Tenant]) -> Rows:
    """Classify many vectors with a large filter."""
    other = tenant("other")
    queries = directions(QUERIES, DIMENSION, seed=1)
    large = {"image_id": {"not": [f"{place:060}" for place in range(FILTER_BYTES // 64)]}}
    size, plain = [], len(other.ask(queries, k=100).content) / MIB
    taken, refused = attempt(lambda: size.append(len(other.ask(queries, k=100, filter=large).content) / MIB))
    note = refused or f"in {taken:.2f} s"
    stage = f"the answer to {QUERIES} vectors, k = 100, with a filter of {len(json.dumps(large)) / 1024:.0f} KiB"
    yield Row(stage, "MiB", *against(size[0] if size else float("nan"), plain, "with none"), note=note)


def removal(tenant: Callable[[str], Tenant]) -> Rows:
    """Remove many images, without and with many stored decisions in which they voted."""
    taken = []
    for stored in (0, STORED):
        own = tenant(f"forgets-{stored}")
        vectors = directions(GONE + KEPT, DIMENSION, seed=2)
        own.add_vectors("tiny", vectors[:GONE], source="gone")
        own.add_vectors("tiny", vectors[GONE:], source="kept")
        for start in range(0, stored, 50):
            own.ask(directions(50, DIMENSION, seed=3 + start), store=True)
        taken.append(attempt(lambda: remove(own)))  # noqa: B023
    stage = f"a removal of {GONE:,} images, {STORED} stored decisions"
    yield row(stage, taken[1], taken[0][0], "with no stored decision")


def remove(own: Tenant) -> None:
    """Request a removal and wait until it is done."""
    asked = {"filter": {"source": "gone"}, "reason": "measured"}
    said = own.call("POST", "/v1/removals", json=asked).json()
    wait(lambda: own.call("GET", f"/v1/removals/{said['id']}").json()["status"] == "done")


def known_pictures(tenant: Callable[[str], Tenant]) -> Rows:
    """Send pictures again that are already remembered."""
    own, pictures = tenant("knows"), different(KNOWN)
    first = seconds(lambda: own.add(pictures))
    own.idle()
    sources = count()
    sent = {
        "unchanged": middle(lambda: own.add(pictures, source="before"), 3),
        "with one changed field": middle(lambda: own.add(pictures, source=f"now-{next(sources)}"), 3),
    }
    for how, (taken, refused) in sent.items():
        one = 1e3 * taken / KNOWN
        compared = against(one, 1e3 * first / KNOWN, "sent the first time")
        yield Row(f"a picture of {KNOWN} known ones, sent again {how}", "ms", *compared, note=refused)


def picture_behind_pictures(tenant: Callable[[str], Tenant]) -> Rows:
    """One tenant's picture, queued behind very many of another."""
    many, one = tenant("many"), tenant("one")
    alone = middle(lambda: one.remembered(different(1)))
    pictures = different(PICTURES)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(many.add, [pictures[start : start + 40] for start in range(0, PICTURES, 40)]))
    taken = attempt(lambda: one.remembered(different(1)))
    waiting, refused = attempt(many.idle)
    stage = f"another tenant's picture behind {PICTURES}, until it is remembered"
    note = taken[1] or f"the {PICTURES} took {waiting:.1f} s more" + (refused and f" and longer: {refused}")
    yield row(stage, (taken[0], note), alone, "alone", "s")


def picture_behind_jobs(tenant: Callable[[str], Tenant]) -> Rows:
    """A picture, queued behind judging jobs of many tenants."""
    judged, one = [tenant(f"judged-{number}") for number in range(JOBS)], tenant("one")
    vectors = directions(100, NUMBERS)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: each.add_vectors(BUILT_IN, vectors), judged))
        alone = middle(lambda: one.remembered(different(1)))
        list(threads.map(lambda each: each.call("POST", "/v1/judgements"), judged))
        taken = attempt(lambda: one.remembered(different(1)))
        done = sum(threads.map(is_judged, judged))
        note = taken[1] or f"{done} of the jobs were done by then"
        yield row(
            f"a picture behind {JOBS} judging jobs, until it is remembered", (taken[0], note), alone, "alone", "s"
        )


def is_judged(own: Tenant) -> bool:
    """Whether its job is done."""
    return bool(own.call("GET", "/v1/judgement").json()["current"])


def classify_beside_slow(tenant: Callable[[str], Tenant]) -> Rows:
    """Classify while another tenant sends pictures that take long to decode."""
    slow, one = tenant("slow"), tenant("one")
    out, [picture] = io.BytesIO(), different(1)
    PIL.Image.new("RGB", (7000, 7000)).save(out, "PNG")
    alone = middle(lambda: one.classify(picture))
    with ThreadPoolExecutor(SIXTEEN) as threads:
        busy = [threads.submit(failure, lambda: slow.classify(out.getvalue())) for _ in range(SIXTEEN)]
        time.sleep(1)  # so that the decoders are at them
        taken, refused = attempt(lambda: one.classify(picture))
        whys = sorted(filter(None, (each.result() for each in busy)))
    of_them = f"of the {SIXTEEN}: {', '.join(whys)}" if whys else ""
    note = "; ".join(filter(None, (refused, of_them)))
    stage = f"another tenant's classification beside {SIXTEEN} PNGs of 49 megapixels"
    yield row(stage, (taken, note), alone, "alone", "s")


def pipelining(tenant: Callable[[str], Tenant]) -> Rows:
    """Memory of the API for a connection without a key that neither sends nor reads."""
    other, api = tenant("other"), psutil.Process(next(pid for pid, name in family().items() if name == "api"))
    other.call("GET", "/v1/labels")
    before, most = api.memory_info().rss, 0
    data, over = GET * 5000, threading.Event()

    def send() -> None:
        with socket.create_connection(address(other), timeout=0.2) as connection:
            sent = 0
            while not over.is_set():
                try:
                    sent = (sent + connection.send(data[sent:])) % len(data)
                except TimeoutError:
                    continue
                except OSError:
                    return

    thread = threading.Thread(target=send)
    thread.start()
    begun = time.perf_counter()
    while time.perf_counter() < begun + FLOOD_SECONDS:
        most = max(most, api.memory_info().rss)
        time.sleep(0.05)
    over.set()
    thread.join()
    stage = f"memory that the API grows by in {FLOOD_SECONDS:.0f} s of pipelined requests without a key"
    yield Row(stage, "MiB", (most - before) / MIB, note=f"from {before / MIB:.0f} MiB")


def idle_connections(tenant: Callable[[str], Tenant]) -> Rows:
    """A client with a key, while idle connections are kept open."""
    other = tenant("served")

    def served() -> Any:
        with httpx.Client(headers=other.http.headers, timeout=10, trust_env=False) as http:
            return http.get(f"{other.http.base_url}/v1/labels").raise_for_status()

    alone = middle(served)
    with ExitStack() as kept:
        for _ in range(CONNECTIONS):
            failure(lambda: keep_alive(kept, address(other)))
        beside = middle(served)
    yield row(f"a client with a key beside {CONNECTIONS} idle connections", beside, alone, "alone")


def keep_alive(kept: ExitStack, where: tuple[str, int]) -> None:
    """Open a connection, send one request, and keep it open."""
    connection = kept.enter_context(socket.create_connection(where, timeout=2))
    connection.sendall(GET)
    connection.recv(4096)


def address(own: Tenant) -> tuple[str, int]:
    """Where the API listens."""
    return own.http.base_url.host, int(own.http.base_url.port or 80)


def different(number: int, numbers: Iterator[int] = count()) -> list[bytes]:  # noqa: B008 - goes on from call to call
    """Make distinct pictures: a number after the end of a JPEG changes the file but not its pixels."""
    few = photographs(8)
    return [few[place % len(few)] + b"%d" % next(numbers) for place in range(number)]


def wait(met: Callable[[], bool]) -> None:
    """Wait for something.

    Raises:
        TimeoutError: it did not come.
    """
    deadline = time.perf_counter() + PATIENCE
    while not met():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s")
        time.sleep(0.01)


def failure(work: Callable[[], object]) -> str:
    """Call a function; return the reason if it fails."""
    try:
        work()
    except httpx.HTTPStatusError as error:
        return f"refused: {error.response.status_code}"
    except (httpx.TransportError, OSError) as error:
        return f"failed: {type(error).__name__} {error}".strip()
    return ""


def attempt(work: Callable[[], object]) -> tuple[float, str]:
    """The seconds that a call takes, and the reason if it fails."""
    begun = time.perf_counter()
    why = failure(work)
    return time.perf_counter() - begun, why


def middle(work: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, str]:
    """The median of several rounds, and the reason if one failed."""
    taken, whys = zip(*(attempt(work) for _ in range(rounds)), strict=True)
    return float(np.median(taken)), max(whys)


def row(stage: str, ours: tuple[float, str], theirs: Any, name: str, unit: str = "ms") -> Row:
    """A row of two times in seconds, each with the reason of a failure."""
    scale = 1e3 if unit == "ms" else 1
    other, why = theirs if isinstance(theirs, tuple) else (theirs, "")
    note = "; ".join(filter(None, (ours[1], why and f"{name}: {why}")))
    return Row(stage, unit, *against(scale * ours[0], scale * other, name), note=note)


def against(ours: float, other: float, name: str) -> tuple[float, dict[str, float], dict[str, float]]:
    """A row's figure, its reference, and the ratio of both."""
    return ours, {name: other}, {name: other / ours}


if __name__ == "__main__":
    main()
