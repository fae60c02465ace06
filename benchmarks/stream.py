"""Accept pictures from the intake's stream, against accepting them over HTTP, with eight clients."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import redis

from benchmarks.result_table import Row, compare
from tests.faults.intake_producers import IMAGE, PRODUCERS
from tests.faults.intake_trial import Intake, intake_service
from tests.support.running_service import fields, unique, until
from tests.support.shape_pictures import KINDS, picture
from visual_memory.schemas.errors import Unavailable

Batch = list[bytes]
Send = Callable[[Intake, Sequence[Batch]], None]

PICTURES = 400
BATCHES = (1, 25)
HTTP = "HTTP"
RETRY_SECONDS = 0.5
BUSY = 503


def measure() -> list[Row]:
    """Pictures per second until the last is durable; embedding finishes between two measurements."""
    with intake_service(ENCODER__THREADS="1") as intake:
        return [
            compare(
                f"accept pictures from the stream, {batch} at a time",
                "pictures/s",
                partial(_rate, intake, _over_stream, batch),
                {HTTP: partial(_rate, intake, _over_http, batch)},
                rounds=3,
                asked={HTTP: 1.0},
            )
            for batch in BATCHES
        ]


def _rate(intake: Intake, send: Send, batch: int) -> float:
    """New pictures per second, for a number of pictures per request or pipeline."""
    pictures = [picture(KINDS[n % len(KINDS)]) for n in range(PICTURES)]
    begun = time.perf_counter()
    send(intake, [pictures[start : start + batch] for start in range(0, PICTURES, batch)])
    taken = time.perf_counter() - begun
    until(lambda: not intake.stack.held({"state": "waiting"}), "all to be remembered", 600)
    until(lambda: intake.waiting() == 0, "all to be settled", 600)
    return PICTURES / taken


def _over_http(intake: Intake, batches: Sequence[Batch]) -> None:
    """Send pictures until the last is answered 202; retry temporary refusals, as the intake does."""
    source = unique("http")

    def client(some: Sequence[Batch]) -> None:
        with httpx.Client(headers=intake.stack.http.headers, timeout=600, trust_env=False) as http:
            for batch in some:
                files = [("files", (f"{n}.png", data)) for n, data in enumerate(batch)]
                sent = {"fields": fields(labels=["a"], source=source)}
                while (
                    answer := http.post(f"{intake.stack.url}/v1/images", files=files, data=sent)
                ).status_code == BUSY:
                    time.sleep(RETRY_SECONDS)
                assert answer.status_code == 202, answer.text

    _side_by_side(client, batches)


def _over_stream(intake: Intake, batches: Sequence[Batch]) -> None:
    """Send pictures until the last has left the stream."""
    source = unique("stream")

    def client(some: Sequence[Batch]) -> None:
        with redis.Redis.from_url(intake.user_url) as server:
            for batch in some:
                pipe: Any = server.pipeline(transaction=False)
                for data in batch:
                    said = {"labels": ["a"], "source": source, "picture": base64.b64encode(data).decode()}
                    event = {"specversion": "1.0", "type": IMAGE, "source": "/rate", "id": source, "data": said}
                    pipe.xadd(intake.stream, {"event": json.dumps(event)})
                pipe.execute()

    _side_by_side(client, batches)
    until(lambda: _is_empty(intake), "the stream to be empty", 600)


def _is_empty(intake: Intake) -> bool:
    try:
        return not intake.open()[1]
    except Unavailable:
        return False


def _side_by_side(client: Callable[[Sequence[Batch]], None], batches: Sequence[Batch]) -> None:
    with ThreadPoolExecutor(PRODUCERS) as threads:
        list(threads.map(client, [batches[n::PRODUCERS] for n in range(PRODUCERS)]))
