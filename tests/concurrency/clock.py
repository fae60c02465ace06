"""A clock that a test moves on: what the service takes for the present moment, its leases included."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from typing import Self, cast
from unittest import mock

from sqlalchemy import Connection

from visual_memory.schemas import moments
from visual_memory.services.infrastructure.records.database import Database


class AnyMoment(type):
    """Takes every moment for one of a class of moments, so that this can stand for `datetime`."""

    def __instancecheck__(cls, instance: object) -> bool:
        """Whether it is a moment."""
        return isinstance(instance, datetime)


class Clock:
    """How far it is ahead of the machine's."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.ahead += timedelta(seconds=seconds)


@contextmanager
def moved_by(clock: Clock) -> Iterator[None]:
    """The service goes by this clock, and so does its database; within another's, by both."""
    present: type[datetime] = vars(moments)["datetime"]
    moment = Database.moment

    class Moved(datetime, metaclass=AnyMoment):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cast(Self, present.now(tz) + clock.ahead)

    def moved(database: Database, connection: Connection) -> datetime:
        told = moment(database, connection)
        return told if database.is_sqlite else told + clock.ahead  # SQLite goes by the process's, which is moved

    with mock.patch.object(moments, "datetime", Moved), mock.patch.object(Database, "moment", moved):
        yield
