"""Leases on named resources: a removal, a stream or an erasure is processed by one owner at a time.

A lease has a unique fencing token, which every transaction of the work compares (`Leases.check`). So a process that was
suspended, and whose lease another process has acquired meanwhile, can write nothing more.
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
    """Another owner has acquired the lease: this one must stop."""


@dataclass(frozen=True)
class Lease:
    """A lease on a resource.

    Attributes:
        resource: its name, such as ``removal:ID``.
        token: the unique token of this owner.
        duration: how long the lease lasts after each `check` or `renew`.
    """

    resource: str
    token: str
    duration: timedelta


class Leases:
    """The leases of all processes, in the records' database and by its clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, resource: str, duration: timedelta) -> Lease | None:
        """Acquire a lease; None if another owner has one that is not over."""
        with self._database.write(urgent=True) as connection:
            return self.acquire_within(connection, resource, duration)

    def acquire_within(self, connection: Connection, resource: str, duration: timedelta) -> Lease | None:
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
        """Renew a lease as part of a transaction, which is rolled back if the lease is lost.

        Raises:
            Superseded: another owner has it by now, or it was released.
        """
        until = self._database.moment(connection) + lease.duration
        if connection.execute(update(leases).where(_is(lease)).values(until=until)).rowcount != 1:
            raise Superseded(lease.resource)

    def renew(self, lease: Lease) -> None:
        """Renew a lease.

        Raises:
            Superseded: another owner has it by now, or it was released.
        """
        with self._database.write(urgent=True) as connection:
            self.check(connection, lease)

    def ensure(self, lease: Lease) -> None:
        """Make sure that a lease lasts for at least half of its duration; it is renewed only if it would not.

        So frequent checks within one lease cost no write, which would wait for the disk.

        Raises:
            Superseded: another owner has it by now, or it was released.
        """
        with self._database.read() as connection:
            moment = self._database.moment(connection)
            until = connection.execute(select(leases.c.until).where(_is(lease))).scalar_one_or_none()
        if until is None:
            raise Superseded(lease.resource)
        if until < moment + lease.duration / 2:
            self.renew(lease)

    @contextmanager
    def kept_alive(self, lease: Lease) -> Iterator[None]:
        """Renew a lease in a thread while the block runs; a suspended process does not."""
        ended = threading.Event()

        def renew() -> None:
            with suppress(Superseded):
                while not ended.wait(lease.duration.total_seconds() / 3):
                    with suppress(Unavailable):
                        self.renew(lease)

        thread = threading.Thread(target=renew, name=f"lease-{lease.resource}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def release(self, lease: Lease) -> None:
        """Release a lease; does nothing if another owner has it by now."""
        with self._database.write(urgent=True) as connection:
            self.release_within(connection, lease)

    def release_within(self, connection: Connection, lease: Lease) -> None:
        """The same, as part of a transaction."""
        connection.execute(delete(leases).where(_is(lease)))

    @contextmanager
    def held(self, resource: str, duration: timedelta) -> Iterator[Lease | None]:
        """Hold a lease while the block runs; yields None if another owner has it."""
        lease = self.acquire(resource, duration)
        try:
            yield lease
        finally:
            if lease is not None:
                self.release(lease)


def _is(lease: Lease) -> ColumnElement[bool]:
    """The row of a lease, unless another owner has acquired it."""
    return (leases.c.resource == lease.resource) & (leases.c.token == lease.token)
