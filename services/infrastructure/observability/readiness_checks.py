"""Check whether every component answers; one that hangs delays no other, and is checked once at a time."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from visual_memory.schemas.errors import VisualMemoryError

TIMEOUT = 2.0
"""Seconds within which a healthy component answers."""

Check = Callable[[], object]
"""Returns if a component answers; raises if it does not."""


class ReadinessChecks:
    """Runs the checks concurrently, each in its own thread.

    Args:
        checks: by the name of the component.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}

    def faults(self) -> dict[str, str]:
        """The fault of every component by its name; empty if it answers within `TIMEOUT`."""
        deadline = time.monotonic() + TIMEOUT
        with self._lock:
            answers = {name: self._start(name) for name in self._checks}
        return {name: _fault(answer, deadline - time.monotonic()) for name, answer in answers.items()}

    def _start(self, name: str) -> "Future[None]":
        """Start a check, unless it is running; returns the future of its answer."""
        before = self._running.get(name)
        if before is not None and not before.done():
            return before
        answer = self._running[name] = Future()
        # a daemon, so that a component that hangs does not keep the process from ending
        threading.Thread(target=_run, args=(self._checks[name], answer), name=f"check-{name}", daemon=True).start()
        return answer


def _run(check: Check, answer: "Future[None]") -> None:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - libraries raise any error
        answer.set_exception(error)
    else:
        answer.set_result(None)


def _fault(answer: "Future[None]", seconds: float) -> str:
    """The fault of a component in one line; empty if it answers."""
    try:
        answer.result(max(0.0, seconds))
    except VisualMemoryError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}"[:200]
    return ""
