"""A vision-language model's server on loopback: it really looks at the pictures, and answers by their colours.

It speaks OpenAI's protocol, refuses what is not of its form, and does worse where a test says so.
"""

import base64
import io
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import PIL.Image

MODEL = "eye/of-the-beholder"
KEY = "the model's key"
TENANT = "reranked"
BUDGET = 2
LABELS = re.compile(r"\[.*\]", re.DOTALL)


@dataclass(frozen=True)
class Seen:
    """A question as it arrived: the texts, the examples' labels, the candidates, and every picture's size."""

    texts: list[str]
    labels: list[list[str]]
    candidates: list[str]
    sizes: list[tuple[int, int]]
    temperature: object
    best: str
    """The label of the example whose mean colour is nearest to the picture's."""


Fault = Callable[["Handler", Seen], object]


class Handler(BaseHTTPRequestHandler):
    """Answers one question after the other."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            seen = self._seen(body)
        except (KeyError, ValueError, AssertionError) as error:
            self.server.faults.append(repr(error))
            return self.say(b"{}", 400)
        self.server.seen.append(seen)
        (self.server.fault or Handler.choose)(self, seen)
        return None

    def choose(self, seen: Seen) -> None:
        """The right answer."""
        self.write(json.dumps({"label": seen.best}))

    def write(self, text: str) -> None:
        """An answer of the protocol, in which the model wrote this."""
        self.say(json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode())

    def say(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _seen(self, body: dict[str, Any]) -> Seen:
        assert self.path == "/v1/chat/completions"
        assert body["model"] == MODEL
        assert self.headers["Authorization"] == f"Bearer {KEY}"
        [message] = body["messages"]
        parts = [
            each["text"] if each["type"] == "text" else _from_url(each["image_url"]["url"])
            for each in message["content"]
        ]
        form = body["response_format"]["json_schema"]
        assert form["strict"]
        assert form["schema"]["additionalProperties"] is False
        return look(parts, form["schema"], body["temperature"])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """The server, with what it saw.

    Attributes:
        fault: what it does instead of answering; None: it answers.
        seen: every question of the right form.
        faults: what was wrong with the others.
        stopped: set when it stops.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault: Fault | None = None
        self.seen: list[Seen] = []
        self.faults: list[str] = []
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """Whoever asked has gone."""


def settings(url: str) -> dict[str, str]:
    """Settings of a service that may send pictures of `TENANT` to the server, `BUDGET` times a day for a key."""
    named = {"URL": url, "MODEL": MODEL, "API_KEY": KEY, "TENANTS": json.dumps([TENANT])}
    named |= {"MARGIN": "0.5", "CALLS_PER_DAY": str(BUDGET)}
    return {f"RERANK__{name}": value for name, value in named.items()}


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()


def look(parts: Sequence[str | bytes], schema: dict[str, Any], temperature: object) -> Seen:
    """Take a question apart: candidates, then text and picture of each example, text and picture, and the form."""
    texts = [part for part in parts if isinstance(part, str)]
    pictures = [PIL.Image.open(io.BytesIO(part), formats=["JPEG"]) for part in parts if isinstance(part, bytes)]
    candidates, *labels = [_labels(text) for text in texts[:-2]]
    assert len(pictures) == len(labels) + 1
    assert schema["properties"]["label"]["enum"] == candidates
    assert schema["required"] == ["label"]
    *examples, colour = [np.asarray(each.convert("RGB"), np.float64).mean((0, 1)) for each in pictures]
    nearest = int(np.argmin([np.linalg.norm(each - colour) for each in examples]))
    return Seen(texts, labels, candidates, [each.size for each in pictures], temperature, labels[nearest][0])


def _labels(text: str) -> list[str]:
    found = LABELS.search(text)
    assert found
    labels: list[str] = json.loads(found[0])
    return labels


def _from_url(url: str) -> bytes:
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return base64.b64decode(data, validate=True)
