"""Configure logging: one line of JSON for each event, with ids of requests and points, and without payloads.

Logs outlive removals. So images are named by the ids of their points, and two things that may quote a payload are
never written: the message of an exception (only its class and location), and the arguments of libraries' messages.
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
"""The id of the current request, also in its threads."""

log = logging.getLogger(__name__)


def configure(process: str) -> None:
    """Write every event of this process to standard error, as a line that names the process."""
    # lines do not name threads, processes and tasks: collecting them would take a third of the time of a line
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
    """The classes of an error and its causes, without their messages, which may quote a payload."""
    return " from ".join(type(each).__name__ for each in _chain(error))


class Formatter(JsonFormatter):
    """Formats a record as a line of JSON, without anything that may quote a payload."""

    def __init__(self, process: str) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields=FIELDS,
            static_fields={"process": process},
            timestamp="time",
        )

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; of a library's only the first line of the template, without its arguments."""
        if not record.name.startswith(OURS):
            plain = logging.LogRecord(record.name, record.levelno, "", 0, _template(record), None, record.exc_info)
            plain.created = record.created
            record = plain
        elif (current := request_id.get()) is not None:
            record.__dict__.setdefault("request", current)
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        """The classes and locations of an error and its causes, without their messages."""
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
    if record.name == "py.warnings":  # file:line: class: message
        return ":".join(first.split(":")[:3])
    return first


def _uncaught(class_: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(class_, KeyboardInterrupt | SystemExit):
        log.critical("an uncaught error", exc_info=(class_, error, trace))
