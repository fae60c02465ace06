"""Classify pictures over HTTP: in sequence, against the sum of the stages, and with eight clients."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from benchmarks.load_clients import TENANT, Caller, Load, directions, load, request, serving
from benchmarks.result_table import Row, compare
from benchmarks.sample_pictures import photographs
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.settings import EncoderSettings, PictureSettings

MEMORIES = 10_000
PICTURES = 64
K = 50
CLIENTS = 8
SECONDS = 4.0
PARTS = "decode + encode + search, in this process"
BARE = "the encoder alone, a batch a core"
MEDIAN = "three times their median"


def measure() -> list[Row]:
    """The time of one request, and times and throughput under load."""
    encoder = load_encoder(EncoderSettings(threads=1))
    pictures, settings = photographs(PICTURES), PictureSettings()
    limits = PictureLimits(settings.max_bytes, settings.max_pixels)
    decoded = [decode(picture, limits, encoder.crop) for picture in pictures]
    requests = [request("/v1/classify", files=[("files", ("picture", picture))]) for picture in pictures]
    turn = itertools.cycle(range(PICTURES))
    with serving(encoder.name, directions(MEMORIES, encoder.dimension)) as (client, memory):
        with closing(Caller(client)) as call:

            def over_http() -> float:
                begun = time.perf_counter()
                call(requests[next(turn)])
                return 1e3 * (time.perf_counter() - begun)

            def parts() -> float:
                begun = time.perf_counter()
                memory.search.nearest(TENANT, encoder.encode([decode(pictures[next(turn)], limits, encoder.crop)]), K)
                return 1e3 * (time.perf_counter() - begun)

            stage = f"classify a picture over HTTP, {MEMORIES:,} memories"
            one = compare(
                stage, "ms", over_http, {PARTS: parts}, rounds=80, asked={PARTS: 1 / 1.15}, note="each on one core"
            )

        def bare() -> float:
            begun, number = time.perf_counter(), 2 * PICTURES
            halves = [decoded[start : start + 4] * 2 for start in range(0, PICTURES, 4)]
            with ThreadPoolExecutor(cpu_threads.count()) as pool:
                list(pool.map(encoder.encode, halves))
            return number / (time.perf_counter() - begun)

        loads: list[Load] = []

        def at_once() -> float:
            loads.append(load(client, requests, CLIENTS, SECONDS))
            return loads[-1].rate

        stage = f"classify pictures over HTTP, {CLIENTS} clients"
        many = compare(stage, "pictures/s", at_once, {BARE: bare}, rounds=3, asked={BARE: 0.9})
    middle = sorted(loads, key=lambda each: each.p99 / each.p50)[1]
    stage, most = f"99th percentile of the times of {CLIENTS} clients", 3 * middle.p50
    slow = Row(stage, "ms", middle.p99, {MEDIAN: most}, {MEDIAN: most / middle.p99}, {MEDIAN: 1})
    return [one, slow, many]
