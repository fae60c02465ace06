"""How fast pictures are accepted by eight clients, over HTTP and over the intake."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import redis

from schemas.errors import Unavailable
from tests.faults.intake_producers import IMAGE, PRODUCERS
from tests.faults.intake_trial import Intake
from tests.shapes import KINDS, picture
from tests.stack import fields, unique, until

Batch = list[bytes]

PICTURES = 400
ROUNDS = 2
RETRY_SECONDS = 0.5
BUSY = 503


def rates(intake: Intake, batch: int) -> tuple[float, float]:
    """Pictures a second over HTTP and over the stream, in turn; each new, so that it is decoded.

    Args:
        intake: the service.
        batch: so many pictures are in a request, and so many entries in a pipeline.
    """
    seconds = {_over_http: 0.0, _over_stream: 0.0}
    for _ in range(ROUNDS):
        for send in seconds:
            pictures = [picture(KINDS[n % len(KINDS)]) for n in range(PICTURES)]
            batches = [pictures[start : start + batch] for start in range(0, PICTURES, batch)]
            begun = time.monotonic()
            send(intake, batches)
            seconds[send] += time.monotonic() - begun
            until(lambda: not intake.stack.held({"state": "waiting"}), "all to be remembered", 600)
            until(lambda: intake.waiting() == 0, "all to be settled", 600)
    http, stream = (ROUNDS * PICTURES / each for each in seconds.values())
    return http, stream


def _over_http(intake: Intake, batches: Sequence[Batch]) -> None:
    """Send them, until the last is answered 202; what is refused for a moment is sent again, as the intake does."""
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
    """Send them, until the last has left the stream, accepted."""
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
