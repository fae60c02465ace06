"""Idempotency keys: a request that is sent twice under one key is done once and answered alike both times.

For a day the digest of the request and the id of the resource that it made are stored, but not the answer: that is
rendered again, so it contains nothing that was removed meanwhile.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from visual_memory.schemas.errors import IdempotencyKeyReused, RequestRunning
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import idempotency

KEPT = timedelta(hours=24)
ABANDONED = timedelta(minutes=2)
"""How long a request may run before another one with its key does the work again."""


class AlreadyMade(Exception):
    """The same request has made the resource already: the transaction that would make it again is rolled back.

    Attributes:
        resource: the id of the resource.
    """

    def __init__(self, resource: str) -> None:
        super().__init__(resource)
        self.resource = resource


@dataclass(frozen=True)
class Claim:
    """A request under an idempotency key.

    Attributes:
        key: the id of the API key that sent it; each API key has its own idempotency keys.
        name: the idempotency key.
        request: the digest of the request.
    """

    tenant: str
    key: str
    name: str
    request: str


class IdempotencyKeys:
    """The requests of the last day that had an idempotency key.

    Args:
        database: the records' database.
        key: for the digests of requests, and for nothing else.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def claim(self, tenant: str, key_id: str, name: str, request: str) -> Claim:
        """The claim of a request, whose text must contain all of its content."""
        return Claim(tenant, key_id, name, hmac.digest(self._key, request.encode(), sha256).hex())

    def find(self, claim: Claim) -> str | None:
        """The id of the resource that the same request has made; None if there was no such request.

        Raises:
            IdempotencyKeyReused: another request has used this key.
            RequestRunning: the same request is still running.
        """
        with self._database.read() as connection:
            row = self._row(connection, claim)
        return _resource(row, claim) if row is not None else None

    def record(self, connection: Connection, claim: Claim, resource: str) -> None:
        """Record the resource of a request in the transaction that makes it; an equal concurrent request waits for it.

        Raises:
            AlreadyMade: the same request has made it already.
            IdempotencyKeyReused, RequestRunning: as `find`.
        """
        if not self._insert(connection, claim, resource):
            row = self._row(connection, claim)
            raise AlreadyMade(_resource(row, claim)) if row is not None else RequestRunning()

    def once(self, claim: Claim, act: Callable[[], str]) -> str:
        """Call `act`, for work outside of the database, unless the same request has; returns the recorded resource.

        Raises:
            IdempotencyKeyReused, RequestRunning: as `find`.
        """
        with self._database.write() as connection:
            if not self._insert(connection, claim, None):
                row = self._row(connection, claim)
                if row is None:
                    raise RequestRunning
                if row.resource is not None or row.request != claim.request or not self._take_over(connection, row):
                    return _resource(row, claim)
        try:
            made = act()
        except BaseException:
            with self._database.write(urgent=True) as connection:
                connection.execute(delete(idempotency).where(_of(claim), idempotency.c.resource.is_(None)))
            raise
        with self._database.write(urgent=True) as connection:
            connection.execute(update(idempotency).where(_of(claim)).values(resource=made))
        return made

    def _insert(self, connection: Connection, claim: Claim, resource: str | None) -> bool:
        """Insert the row; False if another request has this key."""
        moment = self._database.moment(connection)
        connection.execute(delete(idempotency).where(idempotency.c.at <= moment - KEPT))
        named = {"tenant": claim.tenant, "key": claim.key, "idempotency_key": claim.name}
        row = self._database.insert(idempotency).values(**named, request=claim.request, resource=resource, at=moment)
        return connection.execute(row.on_conflict_do_nothing()).rowcount == 1

    def _row(self, connection: Connection, claim: Claim) -> "Row[tuple[object, ...]] | None":
        since = self._database.moment(connection) - KEPT
        return connection.execute(select(idempotency).where(_of(claim), idempotency.c.at > since)).first()

    def _take_over(self, connection: Connection, row: "Row[tuple[object, ...]]") -> bool:
        """Take over an abandoned request; False if it may still be running."""
        moment = self._database.moment(connection)
        left = (idempotency.c.at == row.at) & (idempotency.c.at <= moment - ABANDONED)
        same = (idempotency.c.tenant == row.tenant) & (idempotency.c.key == row.key)
        same &= idempotency.c.idempotency_key == row.idempotency_key
        taken = update(idempotency).where(same, left, idempotency.c.resource.is_(None)).values(at=moment)
        return connection.execute(taken).rowcount == 1


def _of(claim: Claim) -> ColumnElement[bool]:
    named = (idempotency.c.tenant == claim.tenant) & (idempotency.c.key == claim.key)
    return named & (idempotency.c.idempotency_key == claim.name)


def _resource(row: "Row[tuple[object, ...]]", claim: Claim) -> str:
    if row.request != claim.request:
        raise IdempotencyKeyReused(
            "another request was sent with this Idempotency-Key within a day: use a new key for each request"
        )
    if row.resource is None:
        raise RequestRunning
    return str(row.resource)
