"""Logs: one line of JSON for each event, with ids of requests and points, and without anything that was sent.

Logs outlive removals. So images are named by the ids of their points, and two things that may quote a payload are
never written: the words of an exception (its class and place are), and what libraries put into their messages.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

OURS = ("visual_memory.",)
LONGEST = 200
NOISY = ("httpx", "sentence_transformers", "uvicorn.access", "celery.app.trace", "celery.worker.strategy")
FIELDS = {"levelname": "level", "name": "logger", "exc_info": "exception"}

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered, in its threads too."""

log = logging.getLogger(__name__)


def configure(process: str) -> None:
    """Let this process write every event to standard error, as a line that names the process."""
    # of threads, processes and tasks a line says nothing, and to ask for them takes a third of the time of making one
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda what: _uncaught(what.exc_type, what.exc_value, what.exc_traceback)
    threading.excepthook = lambda what: _uncaught(what.exc_type, what.exc_value, what.exc_traceback)
    logging.captureWarnings(capture=True)


def kind(error: BaseException) -> str:
    """The class of an error and those of its causes, without their words, which may quote what was sent."""
    return " from ".join(type(each).__name__ for each in _chain(error))


class Formatter(JsonFormatter):
    """Writes a record as a line of JSON, without what may quote a payload."""

    def __init__(self, process: str) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields=FIELDS,
            static_fields={"process": process},
            timestamp="time",
        )

    def format(self, record: logging.LogRecord) -> str:
        """The line; of what others log, only the first line of the template, for arguments may be anything."""
        if not record.name.startswith(OURS):
            plain = logging.LogRecord(record.name, record.levelno, "", 0, _template(record), None, record.exc_info)
            plain.created = record.created
            record = plain
        elif (current := request_id.get()) is not None:
            record.__dict__.setdefault("request", current)
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        """Where it happened, class by class from the latest to its first cause, without their words."""
        lines = []
        for error in _chain(ei[1]):
            frames = traceback.extract_tb(error.__traceback__)
            lines += [type(error).__name__, *(f"  {each.filename}:{each.lineno} in {each.name}" for each in frames)]
        return "\n".join(lines)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _template(record: logging.LogRecord) -> str:
    first = str(record.msg).strip().partition("\n")[0][:LONGEST]
    if record.name == "py.warnings":  # file:line: class: words
        return ":".join(first.split(":")[:3])
    return first


def _uncaught(class_: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(class_, KeyboardInterrupt | SystemExit):
        log.critical("an error that nobody caught", exc_info=(class_, error, trace))
