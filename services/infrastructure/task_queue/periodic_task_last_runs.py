"""When periodic tasks ran last: stored for all processes, so that due tasks are found after a restart."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from visual_memory.services.infrastructure.records.clock_check import is_over
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import schedule


class LastRun(BaseModel):
    """The last run of a task.

    Attributes:
        begun: when the last run began.
        finished: when the last run began that was finished.
    """

    begun: AwareDatetime | None = None
    finished: AwareDatetime | None = None


class PeriodicTaskRuns:
    """The last run of each periodic task."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, task: str) -> LastRun:
        """The last run of a task."""
        with self._database.read() as connection:
            found = connection.execute(
                select(schedule.c.begun, schedule.c.finished).where(schedule.c.duty == task)
            ).first()
        return LastRun() if found is None else LastRun(begun=found.begun, finished=found.finished)

    def is_due(self, task: str, every: timedelta, moment: datetime) -> bool:
        """Whether the last run began at least `every` ago."""
        begun = self.last(task).begun
        return begun is None or is_over(begun, every, moment)

    @contextmanager
    def running(self, task: str, moment: datetime) -> Iterator[datetime | None]:
        """Record a run that begins at `moment`, and that it finished unless the block raises.

        Yields:
            when the last run began that was finished.
        """
        finished = self.last(task).finished
        self._record(task, begun=moment)
        yield finished
        self._record(task, begun=moment, finished=moment)

    def _record(self, task: str, **moments: datetime) -> None:
        with self._database.write(urgent=True) as connection:
            connection.execute(
                self._database.insert(schedule)
                .values(duty=task, **moments)
                .on_conflict_do_update(index_elements=[schedule.c.duty], set_=moments)
            )
