"""When duties were done last: stored, so that they are due whichever process asks, and after a restart."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from visual_memory.services.infrastructure.records.clock_check import is_over
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import schedule


class LastRun(BaseModel):
    """When a duty was begun last, and when the last run began that came to its end."""

    begun: AwareDatetime | None = None
    finished: AwareDatetime | None = None


class PeriodicTaskRuns:
    """The last run of each duty."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, duty: str) -> LastRun:
        """The last run of a duty."""
        with self._database.read() as connection:
            found = connection.execute(
                select(schedule.c.begun, schedule.c.finished).where(schedule.c.duty == duty)
            ).first()
        return LastRun() if found is None else LastRun(begun=found.begun, finished=found.finished)

    def is_due(self, duty: str, every: timedelta, moment: datetime) -> bool:
        """Whether no run was begun for so long."""
        begun = self.last(duty).begun
        return begun is None or is_over(begun, every, moment)

    @contextmanager
    def running(self, duty: str, moment: datetime) -> Iterator[datetime | None]:
        """Run a duty, which is finished where nothing is raised; yields when the last run began that was finished."""
        finished = self.last(duty).finished
        self._note(duty, begun=moment)
        yield finished
        self._note(duty, begun=moment, finished=moment)

    def _note(self, duty: str, **moments: datetime) -> None:
        with self._database.write(urgent=True) as connection:
            connection.execute(
                self._database.insert(schedule)
                .values(duty=duty, **moments)
                .on_conflict_do_update(index_elements=[schedule.c.duty], set_=moments)
            )
