"""One schedule: a service, its actors, their turns, and the check at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import note

from tests.concurrency.history import Clients, History
from tests.concurrency.schedule_checks import Violations, violations
from tests.concurrency.scheduler import Scheduler, Turn
from tests.concurrency.service import LATER, Place, Service

ROUNDS = 20


@dataclass
class Schedule:
    """What a row of the table adds its actors to."""

    service: Service
    history: History
    scheduler: Scheduler
    clients: Clients

    def add(self, name: str, *work: Callable[[], object]) -> None:
        """An actor who does some things, one after the other."""

        def do() -> None:
            for each in work:
                each()

        self.scheduler.add(name, do)

    def run(
        self,
        turns: Sequence[Turn],
        after: Callable[["Schedule"], None] = lambda _schedule: None,
        *,
        erase: bool = False,
    ) -> Violations:
        """Make the turns, bring everything to its end, and check it."""
        self.history.written()
        self.scheduler.run(turns)
        self._finish()
        after(self)
        if erase:
            self.service.erase()
            self.history.is_erased = True
        self.history.written()
        found = violations(self.history)
        if found:
            note(self.scheduler.told())
            note(str(found))
        return found

    def _finish(self) -> None:
        """What the service's own duties do in the next minutes."""
        for _ in range(ROUNDS):
            self.service.clock.sleep(LATER)
            self.service.sweep()
            self.service.read("heir")
            self.service.work()
            self.service.settle()
            self.history.written()
            waiting = any(each["state"] == "waiting" for each in self.history.held.values())
            if not (waiting or self.service.unfinished() or self.service.is_queued()):
                return


@contextmanager
def schedule(place: Place, faults: int = 1) -> Iterator[Schedule]:
    """An empty service, and nobody who does anything."""
    place.clock.ahead = timedelta(0)
    service = Service(place)
    scheduler = Scheduler(pass_time=lambda: place.clock.sleep(LATER), faults=faults)
    history = History(service, scheduler)
    place.observer.to = history
    try:
        yield Schedule(service, history, scheduler, Clients(history))
    finally:
        scheduler.close()
        place.observer.to = None
        service.close()
