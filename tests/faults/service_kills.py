"""The trials of the fault tests."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import httpx
import psutil
import redis

from tests.faults.api_crashes import mortal_api, settings_beside, wire
from tests.faults.streaming_clients import Proxy, Streams, Worker
from tests.support.running_service import Stack, fields, suspended, unique, until
from tests.support.shape_pictures import picture
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.bootstrap.operator_commands import operator_commands
from visual_memory.services.settings import Settings

KILL_SECONDS = 2.0
FULL_SECONDS = 5.0
"""How long Redis is full or out of reach: longer than it is left alone after it failed."""


def kill_workers(stack: Stack, workers: Sequence[Worker], trials: int) -> float:
    """Kill workers at random moments of their work, while clients stream; how long the recovery from the last took."""
    with Streams(stack) as streams:
        for _ in range(trials):
            ready = until(lambda: [worker for worker in workers if worker.is_ready()], "a worker to take messages")
            time.sleep(random.uniform(0, KILL_SECONDS))
            random.choice(ready).kill()
        seconds = streams.settle(before=time.monotonic())
    streams.check()
    return seconds


def stop_and_kill_a_worker(stack: Stack) -> float:
    """Kill a worker that was stopped before messages came, which Redis gave to it; how long the recovery took."""
    worker = stack.child("worker")
    with suspended(worker):
        ids = stack.teach(*(picture("disc") for _ in range(8)), labels=["disc"], source=unique("stopped"))
        worker.kill()
        psutil.wait_procs([worker], 10)
    killed_at = time.monotonic()
    stack.remembered(ids)
    return time.monotonic() - killed_at


def kill_redis(stack: Stack, *, wiped: bool = False) -> float:
    """Kill the private Redis, and wipe its files, while clients stream; how long the recovery took."""

    def kill() -> None:
        server = stack.child("redis")
        for path in stack.data.rglob("*redis*") if wiped else ():
            if not path.is_dir():  # as that of the pictures of this module's tenant
                path.unlink()
        server.kill()
        psutil.wait_procs([server], 10)

    return _without_redis(stack, kill, lambda: None)


def fill_redis(stack: Stack, server: "redis.Redis") -> float:
    """Let Redis refuse to write because its memory is full, while clients stream; how long the recovery took."""
    server.config_set("maxmemory-policy", "noeviction")
    return _without_redis(
        stack, lambda: server.config_set("maxmemory", 1), lambda: server.config_set("maxmemory", 0), FULL_SECONDS
    )


def break_connections(stack: Stack, proxy: Proxy, how: str) -> float:
    """Reset or stall every connection to Redis, while clients stream; how long the recovery took."""
    return _without_redis(stack, {"reset": proxy.reset, "stall": proxy.stall}[how], proxy.heal, FULL_SECONDS)


def _without_redis(
    stack: Stack, take: Callable[[], object], give_back: Callable[[], object], seconds: float = 0.0
) -> float:
    """Redis carries nothing that acceptance needs: every answer is 202, and at most two seconds later than ever."""
    worker = stack.child("worker")
    with Streams(stack) as streams:
        healthy, since = streams.slowest(), time.monotonic()
        take()
        try:
            time.sleep(seconds)
            streams.flows()
        finally:
            give_back()
        recovery = streams.settle(before=time.monotonic())
    assert streams.statuses(since) == {202}
    assert streams.slowest(since) < healthy + 2
    assert worker.is_running(), "a worker outlives its broker"
    streams.check()
    return recovery


SENDINGS = ("new", "replaced", "amended")
MOST_STEPS = 200


def kill_api(stack: Stack, sending: str) -> int:
    """Kill an API at every step of taking two pictures; how often it was killed.

    Args:
        stack: the service beside which it runs.
        sending: whether the pictures are new, replace others, or are known and get other fields.
    """
    settings = settings_beside(stack)
    with wire(settings) as wired, operator_commands(settings) as operator:
        parts = wired.current()
        pairs = _kill_at_each_step(stack, parts, settings, sending)
        stack.remembered([image_id for pair in pairs for image_id in pair.ids])
        replace(operator.compact.remove_orphans, grace=timedelta(0), pixels_kept=timedelta(0))()
        held, _ = parts.memory.images.page(stack.tenant, [], 10**6)
        pictures = sorted(image.picture for image in held)
        assert parts.pictures.all(stack.tenant) == pictures, "a picture without a point, or a point without a picture"
    return len(pairs) - 1


def _kill_at_each_step(stack: Stack, parts: ApiProcess, settings: Settings, sending: str) -> "list[Pair]":
    pairs = []
    for steps in range(1, MOST_STEPS):
        pairs.append(Pair(stack, parts, sending))
        with mortal_api(settings, steps) as api:
            answered = pairs[-1].send(f"http://{settings.api.host}:{settings.api.port}")
            if not answered:
                api.join(60)
                assert api.exitcode == -signal.SIGKILL
        pairs[-1].check(answered)
        if answered:
            return pairs
        assert pairs[-1].send(stack.url), "what was not answered can be sent again"
        pairs[-1].check(answered=True)
    raise AssertionError("it never came to an answer")


class Pair:
    """Two pictures that are sent together."""

    def __init__(self, stack: Stack, parts: ApiProcess, sending: str) -> None:
        self._stack, self._parts = stack, parts
        self.ids = [unique("mortal") for _ in range(2)]
        self._data = [picture("bars") for _ in self.ids]
        self._before = {"new": [], "replaced": [picture("disc") for _ in self.ids], "amended": self._data}[sending]
        if self._before:
            assert self._post(stack.url, self._before, "before")

    def send(self, url: str) -> bool:
        """Send them; whether they were answered 202."""
        return self._post(url, self._data, "now")

    def check(self, answered: bool) -> None:
        """Each is there whole: as it was sent, or, where that was not answered, as it was before."""
        held = self._parts.memory.images.get(self._stack.tenant, self.ids)
        for place, image_id in enumerate(self.ids):
            image = held.get(image_id)
            if image is None:
                assert not answered
                assert not self._before
                continue
            data = {"now": self._data, "before": self._before}[image.source or ""][place]
            assert image.source == "now" or not answered
            assert image.content_hash == sha256(data).hexdigest()
            assert self._parts.pictures.read(image.picture) == data

    def _post(self, url: str, data: Sequence[bytes], source: str) -> bool:
        said = [fields(labels=["bars"], image_id=image_id, source=source) for image_id in self.ids]
        try:
            answer = httpx.post(
                f"{url}/v1/images",
                headers=self._stack.http.headers,
                files=[("files", ("p", each)) for each in data],
                data={"fields": said},
                timeout=60,
                trust_env=False,
            )
        except httpx.TransportError:
            return False
        assert answer.status_code == 202, answer.text
        return True
