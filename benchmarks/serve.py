"""Serve: decisions per second from vectors, the time from start to ready, and the time of ``--help``."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.clustered_vectors import DIMENSION, clustered
from benchmarks.load_clients import load, request, serving
from benchmarks.result_table import Row, compare, seconds
from benchmarks.tiny_encoder import tiny_encoder
from visual_memory.services.cli.temporary_service import START_SECONDS, free_port
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.processes.ready_message import ADDRESS, ready_messages

MEMORIES = 100_000
VECTORS = 64
CLIENTS = 8
SECONDS = 4.0
ASKED = "asked for"


def measure() -> list[Row]:
    """Measure each against its target."""
    stage = "visual-memory --help"
    command = [sys.executable, "-m", "visual_memory.services.cli", "--help"]
    shown = compare(stage, "s", lambda: seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)),
                    {ASKED: lambda: 0.5}, asked={ASKED: 1})  # fmt: skip
    with TemporaryDirectory(prefix="vm") as folder:
        stage, note = "start to ready", "in a folder that was used before"
        started = compare(
            stage, "s", lambda: start(folder), {ASKED: lambda: 6.0}, rounds=3, asked={ASKED: 1}, note=note
        )
    return [shown, started, *of_vectors()]


def start(folder: str) -> float:
    """Seconds from ``visual-memory up`` until all its processes are ready."""
    with TemporaryDirectory(prefix="vm") as place, ready_messages(Path(place) / "ready") as messages:
        ours = {"DATA": folder, "API__PORT": str(free_port()), "CONFIG": os.devnull}
        environment = {**os.environ, **{f"VISUAL_MEMORY_{name}": value for name, value in ours.items()}}
        command = [sys.executable, "-m", "visual_memory.services.cli", "up"]
        begun = time.perf_counter()
        with subprocess.Popen(
            command, env={**environment, ADDRESS: f"{place}/ready"}, stderr=subprocess.DEVNULL
        ) as service:
            while service.pid not in messages.receive():
                if service.poll() is not None or time.perf_counter() - begun > START_SECONDS:
                    raise SystemExit(f"the service did not start: {Path(folder) / 'logs'}")
                time.sleep(0.05)
            taken = time.perf_counter() - begun
            service.terminate()
    return taken


def of_vectors() -> list[Row]:
    """Decisions per second with one vector per request, and with many."""
    vectors = clustered(VECTORS, seed=1)[0].round(6).tolist()
    single = [request("/v1/classify", json={"vectors": [vector]}) for vector in vectors]
    whole = [request("/v1/classify", json={"vectors": vectors})]
    rows = []
    with TemporaryDirectory(prefix="vm") as folder:
        model = tiny_encoder(Path(folder) / "tiny", DIMENSION)
        with serving(model.name, clustered(MEMORIES, seed=0)[0], ENCODER__NAME=str(model)) as (client, _):
            for requests, each, clients in ((single, 1, CLIENTS), (whole, VECTORS, 2)):
                stage = (
                    f"decisions from vectors, {each} a request, {clients} clients, {MEMORIES:,} x {DIMENSION} memories"
                )
                ours = partial(_decisions, client, requests, each, clients)
                rows.append(compare(stage, "decisions/s", ours, {ASKED: lambda: 400.0}, rounds=3, asked={ASKED: 1}))
    return rows


def _decisions(client: Client, requests: Sequence[httpx.Request], each: int, clients: int) -> float:
    return each * load(client, requests, clients, SECONDS).rate
