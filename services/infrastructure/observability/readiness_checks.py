"""Whether every component answers. A component that hangs marks itself alone, and is asked once at a time."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from visual_memory.schemas.errors import VisualMemoryError

TIMEOUT = 2.0
"""Seconds within which a component that is well says so."""

Check = Callable[[], object]
"""Returns where a component answers; raises where it does not."""


class ReadinessChecks:
    """Asks the components side by side, each in a thread of its own: one that hangs takes no thread of another's.

    Args:
        checks: by the component's name.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._lock = threading.Lock()
        self._asked: dict[str, Future[None]] = {}

    def faults(self) -> dict[str, str]:
        """Every component by name with what is wrong with it; empty where it answers within `TIMEOUT`."""
        deadline = time.monotonic() + TIMEOUT
        with self._lock:
            asked = {name: self._ask(name) for name in self._checks}
        return {name: _fault(answer, deadline - time.monotonic()) for name, answer in asked.items()}

    def _ask(self, name: str) -> "Future[None]":
        """The answer of a component; of one that still owes an answer, that one."""
        before = self._asked.get(name)
        if before is not None and not before.done():
            return before
        answer = self._asked[name] = Future()
        # a daemon, so that a component that hangs does not hold up the end of the process
        threading.Thread(target=_run, args=(self._checks[name], answer), name=f"check-{name}", daemon=True).start()
        return answer


def _run(check: Check, answer: "Future[None]") -> None:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - any library's way of saying that a component is down
        answer.set_exception(error)
    else:
        answer.set_result(None)


def _fault(answer: "Future[None]", seconds: float) -> str:
    """What is wrong with a component, in a line; empty where it answers."""
    try:
        answer.result(max(0.0, seconds))
    except VisualMemoryError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}"[:200]
    return ""
