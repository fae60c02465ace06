"""When duties were done last: stored, so that they are due whichever process asks, and after a restart."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel

from schemas.errors import NotFound
from services.memory.ledger import Ledger
from services.runtime.moments import is_over

RECORDS = "schedule"


class LastRun(BaseModel):
    """When a duty was begun last, and when the last run began that came to its end."""

    begun: AwareDatetime | None = None
    finished: AwareDatetime | None = None


class Schedule:
    """The last run of each duty; a record that cannot be read counts as none."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def last(self, duty: str) -> LastRun:
        """The last run of a duty."""
        try:
            return LastRun.model_validate(self._ledger.get(_key(duty)))
        except (NotFound, ValueError):
            return LastRun()

    def is_due(self, duty: str, every: timedelta, moment: datetime) -> bool:
        """Whether no run was begun for so long."""
        begun = self.last(duty).begun
        return begun is None or is_over(begun, every, moment)

    @contextmanager
    def running(self, duty: str, moment: datetime) -> Iterator[datetime | None]:
        """Run a duty, which is finished where nothing is raised; yields when the last run began that was finished."""
        run = self.last(duty).model_copy(update={"begun": moment})
        self._ledger.put(_key(duty), run.model_dump(mode="json"))
        yield run.finished
        self._ledger.put(_key(duty), LastRun(begun=moment, finished=moment).model_dump(mode="json"))


def _key(duty: str) -> str:
    return f"{RECORDS}/{duty}"
