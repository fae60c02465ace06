"""Events: time from an action to its listeners, and what a thousand listeners cost the API process."""

import asyncio
import json
import resource
import statistics
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil

from benchmarks.process_costs import family
from benchmarks.result_table import Row
from benchmarks.sample_pictures import photographs
from visual_memory.schemas.image import ImageFields, ImagePatch
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.client.http_client import Client

LISTENERS = 1000
AT_ONCE = 100
"""Connections that are opened at once: a service closes some of more than 512 that do not listen yet."""
ACTIONS = 50
PAUSE = 0.2
IDLE_SECONDS = 20.0
LONGEST_SECONDS = 60.0
HEAD = "GET /v1/events HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {key}\r\n\r\n"
DATA = b"data: "


@dataclass
class Heard:
    """What listeners received: milliseconds from the action to each delivery.

    Attributes:
        listeners: how many there are.
        lost: listeners whose connection ended.
    """

    listeners: int
    milliseconds: list[float] = field(default_factory=list)
    ready: int = 0
    lost: int = 0
    connecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    all_listen: asyncio.Event = field(default_factory=asyncio.Event)
    all_heard: asyncio.Event = field(default_factory=asyncio.Event)

    def note_ready(self) -> None:
        """Note that a listener gets what happens from now on."""
        self.ready += 1
        if self.ready == self.listeners:
            self.all_listen.set()

    def note(self, at: float) -> None:
        """Note an event of a moment, in seconds since 1970."""
        self.milliseconds.append(1e3 * (time.time() - at))
        if len(self.milliseconds) == self.listeners * ACTIONS:
            self.all_heard.set()


def measure() -> list[Row]:
    """Measure with one listener, and with a thousand."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        TemporaryDirectory(prefix="vm") as folder,
        temporary_service(Path(folder), API__MAX_LISTENERS_PER_KEY=str(LISTENERS)) as client,
    ):
        client.add([(photographs(1)[0], ImageFields(labels=["any"], image_id="one"))])
        return [row for number in (1, LISTENERS) for row in asyncio.run(_of(client, number))]


async def _of(client: Client, number: int) -> list[Row]:
    api, heard = _api(), Heard(number)
    before = api.memory_full_info().uss
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_listen(client, heard)) for _ in range(number)]
        await heard.all_listen.wait()
        each = (api.memory_full_info().uss - before) / number / 1024
        idle = await _busy(api, asyncio.sleep(IDLE_SECONDS)) / IDLE_SECONDS
        spent = await _busy(api, asyncio.to_thread(_act, client))
        async with asyncio.timeout(LONGEST_SECONDS):
            await heard.all_heard.wait()
        for task in tasks:
            task.cancel()
    if heard.lost or len(heard.milliseconds) != number * ACTIONS:
        raise SystemExit(f"{heard.lost} listeners were lost, {len(heard.milliseconds)} events came")
    median, p99 = np.percentile(heard.milliseconds, [50, 99]).tolist()
    stage = f"events, {number:,} listener{'s' * (number > 1)}"
    longest = f"longest {max(heard.milliseconds):.0f} ms, mean {statistics.fmean(heard.milliseconds):.0f} ms"
    rows = [
        Row(f"{stage}: action to delivery, median", "ms", median),
        Row(f"{stage}: action to delivery, 99th percentile", "ms", p99, note=longest),
        Row(f"{stage}: CPU of the API for one action", "ms", 1e3 * spent / ACTIONS, note="the request included"),
        Row(f"{stage}: CPU of the API while nothing happens", "% of a core", 100 * idle),
    ]
    return [*rows, Row(f"{stage}: memory of the API for each", "KiB", each)] if number > 1 else rows


async def _listen(client: Client, heard: Heard) -> None:
    """Take the time of every event; the parsing is cheap, because the service shares its cores with this."""
    url = httpx.URL(client.url)
    async with heard.connecting:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(HEAD.format(key=client.key).encode())
        await reader.readline()
    is_ready = False
    try:
        async for line in reader:
            if line.startswith(DATA):
                heard.note(datetime.fromisoformat(json.loads(line.removeprefix(DATA))["at"]).timestamp())
            elif line.startswith(b"id: ") and not is_ready:
                is_ready = True
                heard.note_ready()
        heard.lost += 1
    finally:
        writer.close()


def _act(client: Client) -> None:
    """Change an image again and again; each change is one event."""
    for number in range(ACTIONS):
        client.amend("one", ImagePatch(source=f"source-{number}"))
        time.sleep(PAUSE)


async def _busy(api: psutil.Process, work: Awaitable[object]) -> float:
    """CPU seconds of a process while something runs."""
    before = api.cpu_times()
    await work
    after = api.cpu_times()
    return after.user + after.system - before.user - before.system


def _api() -> psutil.Process:
    [pid] = [pid for pid, name in family().items() if name == "api"]
    return psutil.Process(pid)
