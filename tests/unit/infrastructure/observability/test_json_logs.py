"""Promises 3 and 5: the log says what happened and where, and never in words that may quote what was sent."""

import json
import logging
from typing import Any

import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.infrastructure.observability.json_logs import Formatter, kind, request_id

MARKER = "marker-4711"


def failed() -> BaseException:
    try:
        try:
            raise KeyError(MARKER)
        except KeyError as error:
            raise InvalidRequest(f"it is {MARKER}") from error
    except InvalidRequest as error:
        return error


def line(name: str, message: object, *arguments: object, error: BaseException | None = None, **extra: Any) -> Any:
    """The line of an event, as the log has it."""
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.getLogger(name).makeRecord(
        name, logging.WARNING, "file.py", 1, message, arguments, info, "function", extra
    )
    return json.loads(Formatter("worker").format(record))


def test_ours_are_told_in_full() -> None:
    told = line(
        "visual_memory.services.intake.remember_pictures", "remembered %d", 3, tenant="north", points=["a", "b"]
    )
    assert {**told, "time": None} == {
        "time": None,
        "level": "WARNING",
        "logger": "visual_memory.services.intake.remember_pictures",
        "process": "worker",
        "message": "remembered 3",
        "tenant": "north",
        "points": ["a", "b"],
    }
    assert told["time"].endswith("+00:00")


def test_the_request_is_named_while_it_is_answered() -> None:
    token = request_id.set("r-1")
    try:
        assert line("visual_memory.services.infrastructure.task_queue.enqueue", "x")["request"] == "r-1"
    finally:
        request_id.reset(token)
    assert "request" not in line("visual_memory.services.infrastructure.task_queue.enqueue", "x")


def test_an_error_is_its_class_and_place_and_that_of_its_cause() -> None:
    told = line("visual_memory.services.intake.remember_pictures", "failed", error=failed())
    assert MARKER not in json.dumps(told)
    classes = [row for row in told["exception"].splitlines() if not row.startswith(" ")]
    assert classes == ["InvalidRequest", "KeyError"]
    assert f"{__file__}:" in told["exception"]
    assert " in failed" in told["exception"]
    assert kind(failed()) == "InvalidRequest from KeyError"


@pytest.mark.parametrize(
    ("logger", "message", "arguments", "told"),
    [
        ("celery.app.trace", "Task %(name)s raised: %(exc)s", ({"exc": MARKER, "name": "x"},), "Task %(name)s raised"),
        ("celery.worker.consumer.consumer", f"Unknown task\nthe body was: {MARKER}", (), "Unknown task"),
        ("asyncio", f"Task exception was never retrieved\nfuture: <Task {MARKER}>", (), "Task exception was never"),
        ("uvicorn.error", "Invalid HTTP request: %r", (MARKER,), "Invalid HTTP request: %r"),
        ("servicesx", "%s", (MARKER,), "%s"),
        ("py.warnings", f"/a/b.py:7: UserWarning: input_value={MARKER}\n  more()", (), "/a/b.py:7: UserWarning"),
    ],
)
def test_of_others_nothing_is_told_that_was_handed_to_them(
    logger: str, message: str, arguments: tuple[Any, ...], told: str
) -> None:
    written = line(logger, message, *arguments, error=failed(), data={"exc": MARKER})
    assert written["message"].startswith(told)
    assert MARKER not in json.dumps(written)
    assert written["exception"].startswith("InvalidRequest")


def test_an_error_that_turns_in_a_circle_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert kind(first) == "ValueError from KeyError"
