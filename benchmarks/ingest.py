"""Ingest pictures from HTTP until remembered, against the ideal pipeline; and the CPU time of everything else.

The ideal pipeline is as fast as the slower of its two parts would be with all cores for itself.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.process_costs import cpu_seconds
from benchmarks.result_table import Row, compare, rate
from benchmarks.sample_pictures import photographs
from benchmarks.tiny_encoder import tiny_encoder
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.client.http_client import Client
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.settings import EncoderSettings, PictureSettings

PICTURES = int(os.environ.get("BENCH_INGEST", "320"))
PER_REQUEST = 32
IDEAL = "the slower of bare decoding and bare encoding"
BOTH = "bare decoding and bare encoding, one after the other"
ALLOWED = "allowed"


def measure() -> list[Row]:
    """Pictures per second in total, and CPU milliseconds per picture beyond decoding and encoding."""
    return [whole(), overhead()]


def whole() -> Row:
    """Ingest with the built-in encoder."""
    pictures, numbers = photographs(PICTURES), count()
    encoder = load_encoder(EncoderSettings())
    with ThreadPoolExecutor(os.cpu_count()) as pool, _service() as client:
        alone = partial(decode, limits=_limits(), crop=encoder.crop)
        decoded = list(pool.map(alone, pictures))
        decoding = rate(PICTURES, lambda: list(pool.map(alone, pictures)))
        encoding = rate(PICTURES, lambda: encoder.encode(decoded))
        return compare(
            "HTTP to remembered, photographs of 400 x 533",
            "pictures/s",
            rate(PICTURES, lambda: through_all(client, distinct(pictures, numbers))),
            {
                IDEAL: lambda: min(decoding(), encoding()),
                BOTH: lambda: 1 / (1 / decoding() + 1 / encoding()),
            },
            rounds=3,
            asked={IDEAL: 0.85},
            note="the cores do both, so that the second limit is the nearer one",
        )


def overhead() -> Row:
    """Ingest with a tiny encoder, and subtract its cost."""
    pictures, numbers = photographs(PICTURES), count()
    with tempfile.TemporaryDirectory() as folder:
        name = str(tiny_encoder(Path(folder) / "tiny"))
        encoder = load_encoder(EncoderSettings(name=name))
        images = [decode(picture, _limits(), encoder.crop) for picture in pictures]
        with _service(ENCODER__NAME=name) as client:

            def ours() -> float:
                before = _without_decoders()
                through_all(client, distinct(pictures, numbers))
                taken = _without_decoders() - before
                return 1e3 * (taken - _encoding(encoder, images, encoder.batch_size)) / PICTURES

            return compare(
                "accept, queue and store a picture",
                "ms",
                ours,
                {ALLOWED: lambda: 2.0},
                rounds=3,
                asked={ALLOWED: 1},
                note="time of the CPU, of all processes of the service",
            )


def through_all(client: Client, pictures: Sequence[bytes]) -> None:
    """From the first request until the last picture is remembered."""
    for start in range(0, len(pictures), PER_REQUEST):
        client.add([(picture, ImageFields(labels=["any"])) for picture in pictures[start : start + PER_REQUEST]])
    waiting = Filter.model_validate({"state": "waiting"})
    while client.images(waiting, limit=1).data:
        time.sleep(0.02)


def distinct(pictures: Sequence[bytes], numbers: Iterator[int]) -> list[bytes]:
    """The same pictures as distinct files: a number after the end of a JPEG does not change its pixels."""
    return [picture + b"%d" % next(numbers) for picture in pictures]


def _encoding(encoder: Encoder, images: Sequence[object], size: int) -> float:
    encode: Callable[..., object] = encoder.encode
    begun = time.process_time()
    for start in range(0, len(images), size):
        encode(images[start : start + size])
    return time.process_time() - begun


def _without_decoders() -> float:
    return sum(seconds for name, seconds in cpu_seconds().items() if not name.endswith("decoder"))


def _limits() -> PictureLimits:
    settings = PictureSettings()
    return PictureLimits(settings.max_bytes, settings.max_pixels)


@contextmanager
def _service(**settings: str) -> Iterator[Client]:
    with tempfile.TemporaryDirectory() as folder, temporary_service(Path(folder), **settings) as client:
        yield client
