"""Parse Celery messages of external producers: every protocol version, from clients in any language."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from visual_memory.services.infrastructure.task_queue.task_names import REMEMBER_IMAGE


@dataclass(frozen=True)
class CeleryIntakeMessage:
    """A message for the task `REMEMBER_IMAGE`.

    Attributes:
        id: of the message; empty if it has none.
        arguments: the positional arguments.
        named: the keyword arguments.
        body: the text that they were parsed from.
    """

    id: str
    arguments: list[Any]
    named: dict[str, Any]
    body: str


def read_celery_message(raw: bytes) -> CeleryIntakeMessage:
    """Parse a message; the caller must check its body for duplicate keys.

    Raises:
        ValueError: it is no Celery message, is for another task, or is not JSON.
        RecursionError: it is nested too deeply.
    """
    message = json.loads(raw)
    if not isinstance(message, dict) or message.get("content-type") != "application/json":
        raise ValueError("no message in JSON")
    body, content = _body(message)
    task, name, arguments, named = _call(message.get("headers"), content)
    if task != REMEMBER_IMAGE or not isinstance(arguments, list) or not isinstance(named, dict):
        raise ValueError("a message for another task")
    return CeleryIntakeMessage(name if isinstance(name, str) else "", arguments, named, body)


def _call(headers: Any, content: Any) -> tuple[Any, Any, Any, Any]:
    """The task, the id, the positional and the keyword arguments."""
    match headers, content:
        case {"task": task, **others}, [arguments, named, *_]:
            return task, others.get("id"), arguments, named
        case ((dict() | None), {"task": task, **fields}):  # protocol 1: before Celery 4, and many other languages
            return task, fields.get("id"), fields.get("args") or [], fields.get("kwargs") or {}
        case _:
            raise ValueError("no message of Celery")


def _body(message: dict[str, Any]) -> tuple[str, Any]:
    """The text of the body, and its parsed content."""
    match message.get("body"), message.get("properties"):
        case str(text), {"body_encoding": "base64"}:
            body = base64.b64decode(text, validate=True).decode()
        case str(body), _:
            pass
        case _:
            raise ValueError("a message without a body")
    return body, json.loads(body)
