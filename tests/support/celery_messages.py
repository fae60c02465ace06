"""Messages as Celery puts them into Redis, and what somebody else may put there."""

import base64
import json
import uuid
from collections.abc import Sequence
from typing import Any

from visual_memory.services.infrastructure.task_queue.task_names import REMEMBER


def encoded(body: object) -> str:
    """The body of a message."""
    return base64.b64encode(json.dumps(body).encode()).decode()


def read(raw: bytes | None) -> tuple[dict[str, Any], list[Any]]:
    """A message's headers and body."""
    assert raw is not None
    written = json.loads(raw)
    return written["headers"], json.loads(base64.b64decode(written["body"]))


def message(arguments: Sequence[object], task: object = REMEMBER, **headers: Any) -> bytes:
    """A message for a task, with further headers."""
    return _message(
        {"headers": {"task": task, "id": str(uuid.uuid4()), **headers}, "body": encoded([arguments, {}, {}])}
    )


def _message(changed: dict[str, Any], *without: str) -> bytes:
    whole = {
        "body": encoded([["tenant"], {}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": REMEMBER, "id": str(uuid.uuid4())},
        "properties": {
            "correlation_id": "one",
            "delivery_info": {"exchange": "", "routing_key": "remember"},
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "priority": 0,
            "body_encoding": "base64",
        },
        **changed,
    }
    return json.dumps({name: value for name, value in whole.items() if name not in without}).encode()


MALFORMED = {
    "nothing": b"",
    "no JSON": b"\x80 not JSON",
    "null": b"null",
    "a number": b"7",
    "a list": b"[]",
    "an empty object": b"{}",
    "nested too deeply": b"[" * 10_000,
    "a number of 10,000 digits": b"7" * 10_000,
    "no headers": _message({}, "headers"),
    "headers are null": _message({"headers": None}),
    "headers are a list": _message({"headers": [1]}),
    "no id": _message({"headers": {"task": REMEMBER}}),
    "the id is a number": _message({"headers": {"task": REMEMBER, "id": 7}}),
    "the id is no text that can be written": _message({"headers": {"task": REMEMBER, "id": "\ud800"}}),
    "the id is a list": _message({"headers": {"task": REMEMBER, "id": []}}),
    "no task": _message({"headers": {"id": "one"}}),
    "the task is a list": message(["tenant"], task=["a", "b"]),
    "an unknown task": message(["tenant"], task="a.task"),
    "a task of Celery's": message([], task="celery.backend_cleanup"),
    "it expires at no moment": message(["tenant"], expires="soon"),
    "it expires at an empty moment": message(["tenant"], expires=""),
    "it expires at a moment that no clock of UTC shows": message(["tenant"], expires="0001-01-01T00:00:00+14:00"),
    "it expires at a number": message(["tenant"], expires=7),
    "no body": _message({}, "body"),
    "the body is null": _message({"body": None}),
    "the body is an object": _message({"body": {"a": 1}}),
    "the body is no base64": _message({"body": "%%%"}),
    "the body is no JSON": _message({"body": base64.b64encode(b"{").decode()}),
    "the body holds a number": _message({"body": encoded(7)}),
    "the body holds an object": _message({"body": encoded({"tenant": "a"})}),
    "the body holds too little": _message({"body": encoded([["tenant"]])}),
    "arguments are text": _message({"body": encoded(["tenant", {}, {}])}),
    "an argument is a list": message([["tenant"]]),
    "an argument is a number": message([7]),
    "named arguments": _message({"body": encoded([[], {"tenant": "a"}, {}])}),
    "named arguments are a list": _message({"body": encoded([[], [1], {}])}),
    "no properties": _message({}, "properties"),
    "properties are a list": _message({"properties": []}),
    "another encoding of the body": _message({"properties": {"body_encoding": "rot13"}}),
    "pickle": _message({"content-type": "application/x-python-serialize"}),
    "no content type": _message({}, "content-type"),
    "large": message(["a" * 20_000]),
}
