"""Classifying one picture over HTTP, against the sum of its parts: decode, encode, engine query."""

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.pictures import photographs
from schemas.decision import ClassifyOptions
from schemas.image import ImageFields
from services.cli.own_service import own_service
from services.memory.memory import Memory
from services.memory.remote import RemoteEngine
from services.perception.decoding import Limits, decode
from services.perception.loading import load_encoder
from services.places import Places
from services.settings import EncoderSettings, PictureSettings

REMEMBERED = int(os.environ.get("BENCH_REMEMBERED", "500"))
QUERIES = int(os.environ.get("BENCH_QUERIES", "100"))
K = 50


def main() -> None:
    """Print the medians of both, taken in turn, and their ratio."""
    pictures = photographs(REMEMBERED + QUERIES)
    encoder, settings = load_encoder(EncoderSettings()), PictureSettings()
    limits = Limits(settings.max_bytes, settings.max_pixels)
    with tempfile.TemporaryDirectory() as folder, own_service(Path(folder)) as client:
        for start in range(0, REMEMBERED, 50):
            client.add([(each, ImageFields(labels=[str(start)])) for each in pictures[start : start + 50]])
        while any(image.state == "waiting" for image in client.images()):
            time.sleep(0.5)
        memory = Memory(
            RemoteEngine(Places(Path(folder)).engine_socket, 30), encoder.name, encoder.dimension, metadata={}
        )
        parts, whole = [], []
        for picture in pictures[REMEMBERED:]:
            begun = time.perf_counter()
            memory.nearest("default", encoder.encode([decode(picture, limits)]), K)
            between = time.perf_counter()
            client.classify([picture], ClassifyOptions(k=K))
            parts.append(between - begun)
            whole.append(time.perf_counter() - between)
        memory.close()
    of_parts, of_whole = statistics.median(parts) * 1e3, statistics.median(whole) * 1e3
    print(
        f"classify 1: decode + encode + query {of_parts:.1f} ms, over HTTP {of_whole:.1f} ms,"
        f" ratio {of_whole / of_parts:.2f} (1.25 allowed)"
    )


if __name__ == "__main__":
    main()
