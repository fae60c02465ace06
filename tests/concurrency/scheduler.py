"""A deterministic scheduler: one actor runs at a time, from one stop to the next, and the test says which."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from greenlet import greenlet
from hypothesis import strategies as st

MAX_STEPS = 5000
"""More steps than any schedule needs: whoever takes more goes in circles."""
FAULTY = 240
"""Of 256: a turn drawn from here on is one with a fault."""
STEPS = (1, 1, 1, 2, 3, 5, 8, 13, 21)
"""How many steps an actor makes before another one may be chosen."""


class Killed(BaseException):
    """The process of an actor is gone; nothing of it may clean up after itself."""


class Stuck(Exception):
    """An actor never comes to its end."""


class Actor:
    """Work that stands still at `at` until it may make its next step.

    It has a stack of its own, as a thread has, and no thread: to let threads wait for each other takes a loaded machine
    far longer than what they do.

    Attributes:
        error: what its work raised, if it did.
        waits: whether it stands still until everybody else is done.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self.at = "the beginning"
        self.is_done = False
        self.is_killed = False
        self.waits = False
        self.error: BaseException | None = None
        self._work = work
        self._stack = greenlet(self._run)

    def step(self) -> None:
        """Let it go on to its next stop or its end."""
        before, _running.actor = _running.actor, self
        try:
            self._stack.switch()
        finally:
            _running.actor = before

    def kill(self) -> None:
        """End it where it stands."""
        self.is_killed = True
        if not self.is_done:
            self.step()

    def stop(self, at: str) -> None:
        """Stand still, called by itself; returns when it may go on.

        Raises:
            Killed: it may not.
        """
        self.check_alive()
        self.at = at
        assert self._stack.parent is not None
        self._stack.parent.switch()
        self.check_alive()

    def check_alive(self) -> None:
        """Raise `Killed` if it was killed: what it does while that passes through its code has no effect."""
        if self.is_killed:
            raise Killed

    def _run(self) -> None:
        try:
            self.check_alive()
            self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - the scheduler tells it
            self.error = error
        finally:
            self.is_done = True


class _Running(threading.local):
    """Who runs, in the thread of the test; nobody does in others."""

    actor: Actor | None = None
    shelters: int = 0


_running = _Running()


def stop(at: str) -> None:
    """A stop of whichever actor runs; nothing in threads that are no actors, or within `no_stops`."""
    if _running.actor is None:
        return
    if _running.shelters:
        _running.actor.check_alive()
    else:
        _running.actor.stop(at)


def check_alive() -> None:
    """No stop, but a killed actor gets no further."""
    if _running.actor is not None:
        _running.actor.check_alive()


def running_actor() -> str:
    """The name of the actor who runs; empty for everything else."""
    return "" if _running.actor is None else _running.actor.name


@contextmanager
def no_stops() -> Iterator[None]:
    """Nothing within is a stop, as within a transaction of the database."""
    _running.shelters += 1
    try:
        yield
    finally:
        _running.shelters -= 1


class Fault(StrEnum):
    """What may happen to an actor instead of its next step."""

    NONE = "none"
    STANDS_STILL = "stands still"
    KILLED = "killed"


@dataclass(frozen=True)
class Turn:
    """Whose turn it is, among those that can go on, for how many steps, and what happens to it instead."""

    actor: int
    steps: int
    fault: Fault = Fault.NONE


def turns(*faults: Fault) -> st.SearchStrategy[list[Turn]]:
    """Turns of actors, one in sixteen with a fault; what comes after them is done by one actor after the other.

    They are drawn as bytes, for to draw them one by one takes longer than to make them.
    """
    return st.binary(min_size=40, max_size=120).map(
        lambda drawn: [_turn(first, second, faults) for first, second in _pairs(drawn)]
    )


def _pairs(drawn: bytes) -> Iterator[tuple[int, int]]:
    return zip(drawn[::2], drawn[1::2], strict=False)


def _turn(actor: int, what: int, faults: Sequence[Fault]) -> Turn:
    fault = faults[actor % len(faults)] if faults and what >= FAULTY else Fault.NONE
    return Turn(actor // 4, STEPS[what % len(STEPS)], fault)


@dataclass
class Scheduler:
    """Actors, and whose turn it was.

    Attributes:
        pass_time: called when something happens to an actor, so that its leases run out.
        faults: how often that may be.
        step: how many steps were made so far; a clock of the schedule.
        trace: each step: its number, whose it was, and what was about to be done.
    """

    pass_time: Callable[[], object] = lambda: None
    faults: int = 1
    actors: list[Actor] = field(default_factory=list)
    step: int = 0
    trace: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, name: str, work: Callable[[], object]) -> Actor:
        """Another actor, which has not begun yet."""
        self.actors.append(Actor(name, work))
        return self.actors[-1]

    def run(self, chosen: Sequence[Turn]) -> None:
        """Make all turns, then let everybody come to an end, those that stood still last.

        Raises:
            Stuck: somebody does not come to an end.
            AssertionError: the work of an actor raised what it must not.
        """
        for turn in chosen:
            ready = [actor for actor in self.actors if not actor.is_done and not actor.waits]
            if not ready:
                break
            self._make(turn, ready[turn.actor % len(ready)])
        self._finish([actor for actor in self.actors if not actor.waits])
        self._finish(self.actors)
        for actor in self.actors:
            if actor.error is not None:
                raise AssertionError(f"{actor.name} failed: {actor.error!r}") from actor.error

    def close(self) -> None:
        """End all of them, also after something went wrong."""
        for actor in self.actors:
            if not actor.is_done:
                actor.kill()

    def told(self) -> str:
        """What happened: a line for what an actor did until another went on."""
        lines: list[str] = []
        for step, actor, what in self.trace:
            start = f"{actor}: "
            if lines and lines[-1].split(" ", 1)[1].startswith(start):
                lines[-1] += f", {what}"
            else:
                lines.append(f"{step} {start}{what}")
        return "\n".join(lines)

    def _make(self, turn: Turn, actor: Actor) -> None:
        if turn.fault is not Fault.NONE and self.faults > 0:
            self.faults -= 1
            self.trace.append((self.step, actor.name, f"{turn.fault} before {actor.at}"))
            if turn.fault is Fault.KILLED:
                actor.kill()
            else:
                actor.waits = True
            self.pass_time()
            return
        for _ in range(turn.steps):
            if not actor.is_done:
                self._step(actor)

    def _finish(self, actors: Sequence[Actor]) -> None:
        """In turns of one step, so that nobody waits for ever for another."""
        while left := [actor for actor in actors if not actor.is_done]:
            for actor in left:
                self._step(actor)

    def _step(self, actor: Actor) -> None:
        if self.step >= MAX_STEPS:
            raise Stuck(
                f"{self.step} steps, and no end: {', '.join(f'{each.name} at {each.at}' for each in self.actors)}"
            )
        self.step += 1
        self.trace.append((self.step, actor.name, actor.at))
        actor.step()
