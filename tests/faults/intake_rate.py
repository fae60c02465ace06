"""How fast pictures are accepted by eight clients, over HTTP and over the intake, one picture at a time."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import redis

from tests.faults.intake_producers import IMAGE, PRODUCERS
from tests.faults.intake_trial import Intake
from tests.shapes import KINDS, picture
from tests.stack import fields, unique, until

PICTURES = 400
ROUNDS = 2


def rates(intake: Intake) -> tuple[float, float]:
    """Pictures a second over HTTP and over the stream, measured in turn; each new, so that it is decoded."""
    seconds = {_over_http: 0.0, _over_stream: 0.0}
    for _ in range(ROUNDS):
        for send in seconds:
            pictures = [picture(KINDS[n % len(KINDS)]) for n in range(PICTURES)]
            begun = time.monotonic()
            send(intake, pictures)
            seconds[send] += time.monotonic() - begun
            until(lambda: not intake.stack.held({"state": "waiting"}), "all to be remembered", 600)
            until(lambda: not intake.streams.accepted_ids("default"), "all to be settled", 60)
    http, stream = (ROUNDS * PICTURES / each for each in seconds.values())
    return http, stream


def _over_http(intake: Intake, pictures: Sequence[bytes]) -> None:
    """Send them, until the last is answered 202."""
    source = unique("http")

    def client(some: Sequence[bytes]) -> None:
        with httpx.Client(headers=intake.stack.http.headers, timeout=60, trust_env=False) as http:
            for data in some:
                sent = {"fields": fields(labels=["a"], source=source)}
                answer = http.post(f"{intake.stack.url}/v1/images", files={"files": ("p", data)}, data=sent)
                assert answer.status_code == 202, answer.text

    _side_by_side(client, pictures)


def _over_stream(intake: Intake, pictures: Sequence[bytes]) -> None:
    """Send them, until the last has left the stream, accepted."""
    source = unique("stream")

    def client(some: Sequence[bytes]) -> None:
        server: Any = redis.Redis.from_url(intake.user_url)
        for data in some:
            said = {"labels": ["a"], "source": source, "picture": base64.b64encode(data).decode()}
            event = {"specversion": "1.0", "type": IMAGE, "source": "/rate", "id": source, "data": said}
            server.xadd(intake.stream, {"event": json.dumps(event)})
        server.close()

    _side_by_side(client, pictures)
    until(lambda: not intake.streams.backlog("default").entries, "the stream to be empty", 600)


def _side_by_side(client: Callable[[Sequence[bytes]], None], pictures: Sequence[bytes]) -> None:
    with ThreadPoolExecutor(PRODUCERS) as threads:
        list(threads.map(client, [pictures[n::PRODUCERS] for n in range(PRODUCERS)]))
