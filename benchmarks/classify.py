"""Classifying one picture over HTTP, against the sum of its parts: decode, encode, engine query."""

import os
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.pictures import photographs
from schemas.decision import ClassifyOptions
from schemas.image import ImageFields
from services.cli.own_service import free_port, own_service
from services.memory.memory import Memory
from services.memory.remote import RemoteEngine
from services.perception.decoding import Limits, decode
from services.perception.loading import load_encoder
from services.runtime.places import Places
from services.settings import EncoderSettings, PictureSettings

REMEMBERED = int(os.environ.get("BENCH_REMEMBERED", "500"))
QUERIES = int(os.environ.get("BENCH_QUERIES", "100"))
K = 50
STAGES = ("decode", "encode", "search")


def main() -> None:
    """Print the medians of both, taken in turn, and their ratio."""
    pictures = photographs(REMEMBERED + QUERIES)
    encoder, settings = load_encoder(EncoderSettings()), PictureSettings()
    limits = Limits(settings.max_bytes, settings.max_pixels)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, own_service(Path(folder), API__METRICS_PORT=str(port)) as client:
        for start in range(0, REMEMBERED, 50):
            client.add([(each, ImageFields(labels=[str(start)])) for each in pictures[start : start + 50]])
        while any(image.state == "waiting" for image in client.images()):
            time.sleep(0.5)
        memory = Memory(
            RemoteEngine(Places(Path(folder)).engine_socket, 30), encoder.name, encoder.dimension, metadata={}
        )
        client.classify(pictures[:1])
        before = stage_seconds(port)
        parts, whole = [], []
        for picture in pictures[REMEMBERED:]:
            begun = time.perf_counter()
            memory.nearest("default", encoder.encode([decode(picture, limits)]), K)
            between = time.perf_counter()
            client.classify([picture], ClassifyOptions(k=K))
            parts.append(between - begun)
            whole.append(time.perf_counter() - between)
        memory.close()
        of_stages = (stage_seconds(port) - before) / QUERIES
    print(
        f"classify 1: over HTTP {statistics.mean(whole) * 1e3:.1f} ms (1.25 allowed)\n"
        f"  {report(statistics.mean(parts), whole)} decode + encode + query alone, in another process\n"
        f"  {report(of_stages, whole)} decode + encode + query as the service timed them"
    )


def stage_seconds(port: int) -> float:
    """Seconds that the service has spent decoding, encoding and searching, in all its processes."""
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    sums = (re.search(rf'stage_seconds_sum{{stage="{stage}"}} (\S+)', metrics) for stage in STAGES)
    return sum(float(found[1]) for found in sums if found)


def report(parts: float, whole: Sequence[float]) -> str:
    """The ratio of the means."""
    return f"{statistics.mean(whole) / parts:.2f} times the {parts * 1e3:.1f} ms of"


if __name__ == "__main__":
    main()
