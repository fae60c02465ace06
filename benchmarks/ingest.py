"""Ingest: HTTP, queue, decode, encode, store, against a bare loop that decodes and encodes the same pictures."""

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.pictures import photographs
from schemas.filter import Filter
from schemas.image import ImageFields
from services.cli.own_service import own_service
from services.client import Client
from services.perception.decoding import Limits, decode
from services.perception.encoder import Encoder
from services.perception.loading import load_encoder
from services.settings import EncoderSettings, PictureSettings

PICTURES = int(os.environ.get("BENCH_INGEST", "480"))
PER_REQUEST = 32
ROUNDS = 3


def main() -> None:
    """Print pictures per second of both, and the ratio, of several rounds in turn."""
    pictures = photographs(PICTURES * (ROUNDS + 1))
    encoder = load_encoder(EncoderSettings())
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tempfile.TemporaryDirectory() as folder,
        own_service(Path(folder)) as client,
    ):
        through_all(client, pictures[:PER_REQUEST])
        for turn in range(1, ROUNDS + 1):
            batch = pictures[turn * PICTURES : (turn + 1) * PICTURES]
            bare = PICTURES / bare_loop(pool, encoder, batch)
            full = PICTURES / through_all(client, batch)
            print(f"ingest: bare loop {bare:6.1f}/s, through all {full:6.1f}/s, ratio {full / bare:.2f} (0.75 asked)")


def bare_loop(pool: Executor, encoder: Encoder, pictures: Sequence[bytes]) -> float:
    """Seconds to decode and encode, batch after batch, each on all cores."""
    settings, size = PictureSettings(), encoder.batch_size
    alone = partial(decode, limits=Limits(settings.max_bytes, settings.max_pixels))
    begun = time.perf_counter()
    for start in range(0, len(pictures), size):
        encoder.encode(list(pool.map(alone, pictures[start : start + size])))
    return time.perf_counter() - begun


def through_all(client: Client, pictures: Sequence[bytes]) -> float:
    """Seconds from the first request until the last picture is remembered."""
    begun = time.perf_counter()
    sent: list[str] = []
    for start in range(0, len(pictures), PER_REQUEST):
        images = [(picture, ImageFields(labels=["any"])) for picture in pictures[start : start + PER_REQUEST]]
        sent += [accepted.image_id for accepted in client.add(images)]
    waiting = Filter.model_validate({"image_id": sent, "state": "waiting"})
    while next(client.images(waiting, page=1), None) is not None:
        time.sleep(0.05)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
