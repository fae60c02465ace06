"""Leases: one owner for each removal, job, compaction or other work that only one may do at a time.

Whoever takes a lease gets a token that nobody ever had. Every transaction of the work compares it (`Leases.check`), so
that a process which stood still, and whose lease was taken by another meanwhile, writes nothing more.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, delete, select, update

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import leases


class Superseded(Exception):
    """Another owner has taken the lease since; whoever meets this stops, for the other goes on."""


@dataclass(frozen=True)
class Lease:
    """That some work is one owner's.

    Attributes:
        resource: what it is about, such as ``removal:ID``.
        token: proves that it is this owner's; no other lease has it.
        duration: how long it lasts from each `check` or `renew` on.
    """

    resource: str
    token: str
    duration: timedelta


class Leases:
    """All leases, in the database that all processes share; by its clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, resource: str, duration: timedelta) -> Lease | None:
        """Become the owner, where there is none or the lease of the last one is over; None where another is."""
        with self._database.write(urgent=True) as connection:
            return self.take_within(connection, resource, duration)

    def take_within(self, connection: Connection, resource: str, duration: timedelta) -> Lease | None:
        """The same, as part of a transaction."""
        moment, token = self._database.moment(connection), secrets.token_hex(16)
        row = {"token": token, "until": moment + duration}
        statement = self._database.insert(leases).values(resource=resource, **row)
        taken = statement.on_conflict_do_update(
            index_elements=[leases.c.resource], set_=row, where=leases.c.until <= moment
        )
        connection.execute(taken)
        held = connection.execute(select(leases.c.token).where(leases.c.resource == resource)).scalar_one_or_none()
        return Lease(resource, token, duration) if held == token else None

    def check(self, connection: Connection, lease: Lease) -> None:
        """Prolong a lease as part of a transaction, which then is the owner's or is undone.

        Raises:
            Superseded: it is another's by now, or was given back.
        """
        until = self._database.moment(connection) + lease.duration
        if connection.execute(update(leases).where(_is(lease)).values(until=until)).rowcount != 1:
            raise Superseded(lease.resource)

    def renew(self, lease: Lease) -> None:
        """Prolong a lease.

        Raises:
            Superseded: it is another's by now, or was given back.
        """
        with self._database.write(urgent=True) as connection:
            self.check(connection, lease)

    def hold(self, lease: Lease) -> None:
        """Make sure that a lease lasts for half of its duration yet: it is prolonged where it would not.

        That spares a write of the database, which waits for the disk, where much is asked within one lease.

        Raises:
            Superseded: it is another's by now, or was given back.
        """
        with self._database.read() as connection:
            moment = self._database.moment(connection)
            until = connection.execute(select(leases.c.until).where(_is(lease))).scalar_one_or_none()
        if until is None:
            raise Superseded(lease.resource)
        if until < moment + lease.duration / 2:
            self.renew(lease)

    @contextmanager
    def kept(self, lease: Lease) -> Iterator[None]:
        """Prolong a lease while the block runs, as often as needed; not while this process stands still."""
        ended = threading.Event()

        def prolong() -> None:
            with suppress(Superseded):
                while not ended.wait(lease.duration.total_seconds() / 3):
                    with suppress(Unavailable):
                        self.renew(lease)

        thread = threading.Thread(target=prolong, name=f"lease-{lease.resource}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def release(self, lease: Lease) -> None:
        """Give a lease back; nothing where it is another's by now."""
        with self._database.write(urgent=True) as connection:
            self.release_within(connection, lease)

    def release_within(self, connection: Connection, lease: Lease) -> None:
        """The same, as part of a transaction."""
        connection.execute(delete(leases).where(_is(lease)))

    @contextmanager
    def held(self, resource: str, duration: timedelta) -> Iterator[Lease | None]:
        """Own something while the block runs; None where another does."""
        lease = self.take(resource, duration)
        try:
            yield lease
        finally:
            if lease is not None:
                self.release(lease)


def _is(lease: Lease) -> ColumnElement[bool]:
    """The row of a lease, as long as nobody else has taken it."""
    return (leases.c.resource == lease.resource) & (leases.c.token == lease.token)
