"""Fill a second encoder's vectors while clients classify: the speed, and the cost for the clients.

Filling has what all others leave of the cores. So it is measured on a machine where nothing else is at work, in turn
with the bare encoder: that embeds views which were decoded before, with as many threads of the same priority. Then
clients classify without a pause, in turn while it is filled and while that pauses.
"""

import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.load_clients import CLASSES, TENANT, directions, load, request
from benchmarks.process_costs import cpu_seconds
from benchmarks.result_table import Row, seconds
from benchmarks.sample_pictures import photographs
from visual_memory.schemas.encoder import EncoderSpec, FillSettings
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.bootstrap.encoder_commands import EncoderCommands, encoder_commands
from visual_memory.services.bootstrap.wiring.wire_memory import encoder_records_of
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.client.http_client import Client
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_payload import to_point
from visual_memory.services.settings import EncoderSettings, PictureSettings, Settings
from visual_memory.services.vector_engines.engine_contract import Insert, NamedVectors

PICTURES = int(os.environ.get("BENCH_MIGRATE", "10000"))
MODEL = os.environ.get("BENCH_MIGRATE_MODEL", "efficientnet-lite0")
SEEN = 256
"""Distinct photographs; all other files are links to them."""
AT_ONCE = 1000
WINDOW, BARE_WINDOW, STARTING = 12.0, 6.0, 4.0
"""Seconds of filling or of the bare encoder; and seconds for filling to start and stop."""
PAIRS = 5
CLIENTS = 4
BARE, BOTH, ALONE = "the bare encoder", "bare decoding and bare encoding, one after the other", "without filling"


def measure() -> list[Row]:
    """Fill a memory without and with clients."""
    pictures = photographs(SEEN)
    with _filled_memory(pictures) as (client, commands, spec), ExitStack() as opened:
        fill = _Fill(commands, commands.missing_vectors_of(spec), spec)
        encoder = load_encoder(EncoderSettings(threads=1), spec)
        shared = MicroBatcher(lambda: encoder, threads=cpu_threads.count(), initializer=cpu_threads.lower_priority)
        opened.callback(shared.close)
        threads = opened.enter_context(ThreadPoolExecutor(cpu_threads.count(), initializer=cpu_threads.lower_priority))
        return [_alone(fill, _Bare(encoder, shared, threads, pictures)), _beside(fill, client, pictures)]


@dataclass(frozen=True)
class _Fill:
    """Resume and pause the filling of one encoder."""

    commands: EncoderCommands
    filling: MissingVectors
    spec: EncoderSpec

    def let(self, *, go: bool) -> None:
        self.commands.records.set_fill(self.spec.name, FillSettings(paused=not go))
        time.sleep(STARTING)

    def done(self) -> int:
        return self.filling.counts(None).filled

    @contextmanager
    def going(self) -> Iterator[Callable[[], float]]:
        """Fill for a while; yield a function that returns the pictures per second."""
        self.let(go=True)
        before, begun = self.done(), time.perf_counter()
        try:
            yield lambda: (self.done() - before) / (time.perf_counter() - begun)
        finally:
            self.let(go=False)


class _Bare:
    """The bare encoder."""

    def __init__(
        self, encoder: Encoder, shared: MicroBatcher, threads: ThreadPoolExecutor, pictures: list[bytes]
    ) -> None:
        limits = PictureLimits(PictureSettings().max_bytes, PictureSettings().max_pixels)
        self._decode = partial(decode, limits=limits, crop=encoder.crop)
        self._threads, self._shared, self._pictures = threads, shared, pictures
        self._views = list(threads.map(self._decode, pictures))
        self.cpu = 0.0

    def encoding(self) -> float:
        """Pictures per second; `cpu` is the CPU time of one in milliseconds."""
        before = time.process_time()
        rate = self._rate(lambda: self._shared.encode(self._views))
        self.cpu = 1e3 * (time.process_time() - before) / (rate * BARE_WINDOW)
        return rate

    def decoding(self) -> float:
        """Pictures a second."""
        return self._rate(lambda: list(self._threads.map(self._decode, self._pictures)))

    def _rate(self, work: Callable[[], object]) -> float:
        done, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < BARE_WINDOW:
            work()
            done += SEEN
        return done / (time.perf_counter() - begun)


def _alone(fill: _Fill, bare: _Bare) -> Row:
    """Alternate between the bare encoder and filling until everything is filled."""
    pairs: list[dict[str, float]] = []
    took = 0.0
    while fill.filling.counts(None).left > PICTURES // 20 and len(pairs) < 2 * PAIRS:
        encoding, decoding = bare.encoding(), bare.decoding()
        with fill.going() as rate:
            cpu = _cpu()
            before = fill.done()
            time.sleep(WINDOW)
            ours = rate()
            took = 1e3 * (_cpu() - cpu) / max(1, fill.done() - before)
        if fill.filling.counts(None).left:  # else it had nothing to do at the end
            pairs.append({"": ours, BARE: encoding, BOTH: 1 / (1 / encoding + 1 / decoding)})
    return _row(
        f"fill {PICTURES:,} photographs of 400 x 533 with {fill.spec.model}",
        pairs,
        {BARE: 0.85},
        f"{took:.1f} ms of the CPU a picture, decoding included; the bare encoder {bare.cpu:.1f} ms",
    )


def _beside(fill: _Fill, client: Client, pictures: list[bytes]) -> Row:
    """Clients that classify pictures, alternately with and without filling."""
    requests = [request("/v1/classify", files=[("files", ("p", picture))]) for picture in pictures]
    _empty(fill)
    load(client, requests, CLIENTS, BARE_WINDOW)
    pairs, rates = [], []
    for _ in range(PAIRS):
        alone = load(client, requests, CLIENTS, WINDOW).rate
        with fill.going() as rate:
            pairs.append({"": load(client, requests, CLIENTS, WINDOW).rate, ALONE: alone})
            rates.append(rate())
    note = f"and {statistics.median(rates):.0f} pictures a second are filled meanwhile"
    return _row(f"classify, {CLIENTS} clients, while vectors are filled", pairs, {ALONE: 0.8}, note)


def _row(stage: str, pairs: list[dict[str, float]], asked: dict[str, float], note: str) -> Row:
    names = [name for name in pairs[0] if name]
    ratios = {name: statistics.median(pair[""] / pair[name] for pair in pairs) for name in names}
    middle = {name: statistics.median(pair[name] for pair in pairs) for name in pairs[0]}
    return Row(stage, "pictures/s", middle.pop(""), middle, ratios, asked, note)


def _empty(fill: _Fill) -> None:
    """Reset the filling."""
    engine, name = fill.commands.drop.engine, vector_name(fill.spec.name)
    engine.drop_vector(name)
    engine.add_vector(name, fill.spec.dimension)


def _cpu() -> float:
    return sum(taken for name, taken in cpu_seconds().items() if name.startswith("worker"))


@contextmanager
def _filled_memory(pictures: list[bytes]) -> Iterator[tuple[Client, EncoderCommands, EncoderSpec]]:
    """A service with `PICTURES` remembered pictures and a second encoder whose filling is paused."""
    with TemporaryDirectory(prefix="vm") as name, ExitStack() as opened:
        data = Path(name)
        earlier = identify(EncoderSettings(), 1).model_dump() | {
            "name": "earlier",
            "dimension": 1280,
            "added_at": now(),
        }
        with records_of(Settings(data=data)) as database:
            encoder_records_of(database).create_first(EncoderSpec.model_validate(earlier))
        client = opened.enter_context(temporary_service(data))
        commands = opened.enter_context(encoder_commands(Settings(data=data)))
        active = commands.records.active()
        assert active is not None
        memory = commands.memory_of(commands.records.get(active.name))
        images = _images(data, pictures)
        vectors = directions(PICTURES, memory.dimension)
        took = seconds(
            lambda: [
                commands.drop.engine.write(
                    [
                        Insert(
                            [to_point(image) for image in images[start : start + AT_ONCE]],
                            NamedVectors(vector_name(active.name), vectors[start : start + AT_ONCE]),
                        )
                    ]
                )
                for start in range(0, PICTURES, AT_ONCE)
            ]
        )
        print(f"{PICTURES:,} images were put in {took:.0f} s", flush=True)
        spec = commands.add(EncoderSettings(name=MODEL))
        commands.records.set_fill(spec.name, FillSettings(paused=True))
        yield client, commands, spec


def _images(data: Path, pictures: list[bytes]) -> list[StoredImage]:
    """Remembered images, with their pictures in place."""
    folder = data / "pictures" / TENANT / f"{now():%Y%m%d%H}"
    folder.mkdir(parents=True, exist_ok=True)
    first = [folder / f"first-{place}" for place in range(len(pictures))]
    for file, picture in zip(first, pictures, strict=True):
        file.write_bytes(picture)
    images = []
    for row in range(PICTURES):
        key = f"{folder.relative_to(data / 'pictures')}/{uuid.uuid4()}"
        (data / "pictures" / key).hardlink_to(first[row % len(first)])
        images.append(
            StoredImage(
                tenant=TENANT,
                image_id=f"{row:08}",
                labels=[f"class-{row % CLASSES}"],
                state=State.REMEMBERED,
                accepted_at=now(),
                content_hash=f"{row:064x}",
                picture=key,
            )
        )
    return images
