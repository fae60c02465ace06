"""Messages of Celery that others than this service send: of every version of its protocol, and in every language."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from visual_memory.services.infrastructure.task_queue.task_names import REMEMBER_IMAGE


@dataclass(frozen=True)
class CeleryIntakeMessage:
    """What a message asks `REMEMBER_IMAGE` to do.

    Attributes:
        id: of the message; empty where it has none.
        arguments: those without a name.
        named: the named ones.
        body: the text that they were read from.
    """

    id: str
    arguments: list[Any]
    named: dict[str, Any]
    body: str


def read_celery_message(raw: bytes) -> CeleryIntakeMessage:
    """Read a message; whether a key is given twice in it is for its reader to see.

    Raises:
        ValueError: it is none, or for another task, or not in JSON.
        RecursionError: it is nested too deeply.
    """
    message = json.loads(raw)
    if not isinstance(message, dict) or message.get("content-type") != "application/json":
        raise ValueError("no message in JSON")
    body, content = _body(message)
    task, name, arguments, named = _asked(message.get("headers"), content)
    if task != REMEMBER_IMAGE or not isinstance(arguments, list) or not isinstance(named, dict):
        raise ValueError("a message for another task")
    return CeleryIntakeMessage(name if isinstance(name, str) else "", arguments, named, body)


def _asked(headers: Any, content: Any) -> tuple[Any, Any, Any, Any]:
    """The task, the id, and the arguments without and with names."""
    match headers, content:
        case {"task": task, **others}, [arguments, named, *_]:
            return task, others.get("id"), arguments, named
        case ((dict() | None), {"task": task, **told}):  # of before Celery 4, and of many other languages still
            return task, told.get("id"), told.get("args") or [], told.get("kwargs") or {}
        case _:
            raise ValueError("no message of Celery")


def _body(message: dict[str, Any]) -> tuple[str, Any]:
    """The body's text, and what it holds."""
    match message.get("body"), message.get("properties"):
        case str(text), {"body_encoding": "base64"}:
            body = base64.b64decode(text, validate=True).decode()
        case str(body), _:
            pass
        case _:
            raise ValueError("a message without a body")
    return body, json.loads(body)
