"""The records of erasures: which removals wait for one, which are being erased, which have a receipt of it."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select, update

from visual_memory.services.infrastructure.records.resource_leases import Superseded
from visual_memory.services.infrastructure.records.tables import removals
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep

PAGE = 500
_WAITS = and_(removals.c.step == RemovalStep.DONE.value, removals.c.erased_at.is_(None))


class ErasureRecords:
    """The erasures of every tenant's removals."""

    def __init__(self, records: RemovalRecords) -> None:
        self._records = records
        self._database = records.database

    def waiting(self) -> int:
        """The number of removals that are done and not erased."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(_WAITS)).scalar_one()

    def is_due(self, wait: timedelta, moment: datetime) -> bool:
        """Whether a removal has waited this long at a moment, or is to be erased at once."""
        due = _WAITS & (removals.c.erase_now | (removals.c.verified_at <= moment - wait))
        with self._database.read() as connection:
            return connection.execute(select(removals.c.id).where(due).limit(1)).first() is not None

    def is_due_at_once(self) -> bool:
        """Whether a waiting removal is to be erased at once."""
        due = select(removals.c.id).where(_WAITS & removals.c.erase_now).limit(1)
        with self._database.read() as connection:
            return connection.execute(due).first() is not None

    def begin(self, connection: Connection, erasure: str, until: datetime, young: Mapping[str, datetime]) -> int:
        """Assign the removals verified before a moment to an erasure, as part of a transaction; returns their number.

        Args:
            connection: the transaction.
            erasure: the erasure's id.
            until: the moment.
            young: for each tenant that still has files without a point, when the oldest of them was written: only
                removals verified before that are assigned.
        """
        others = removals.c.tenant.not_in([*young]) & (removals.c.verified_at < until)
        limited = [(removals.c.tenant == tenant) & (removals.c.verified_at < since) for tenant, since in young.items()]
        begun = update(removals).where(_WAITS & or_(others, *limited)).values(erasing=erasure)
        return connection.execute(begun).rowcount

    def of(self, erasure: str) -> Iterator[RemovalState]:
        """The removals of an erasure that are not erased yet."""
        last = ""
        while found := self._records.find(_WAITS & (removals.c.erasing == erasure) & (removals.c.id > last), PAGE):
            yield from found
            last = found[-1].id

    def end(self, connection: Connection, removal_id: str, erasure: str, erased: bool, note: str) -> datetime:
        """Record that a removal is erased, as part of a transaction; returns the moment.

        Raises:
            Superseded: the removal belongs to another erasure, or is erased already.
        """
        moment = self._database.moment(connection)
        this = _WAITS & (removals.c.id == removal_id) & (removals.c.erasing == erasure)
        ended = update(removals).where(this).values(erased_at=moment, erased=erased, erasure_note=note, erasing=None)
        if connection.execute(ended).rowcount != 1:
            raise Superseded(removal_id)
        return moment

    def without_receipt(self) -> list[RemovalState]:
        """Erased removals whose erasure has no receipt yet."""
        return self._records.find(removals.c.erased_at.is_not(None) & removals.c.erasure_receipt.is_(None), PAGE)

    def set_receipt(self, removal_id: str, text: str) -> None:
        """Issue the receipt of an erasure."""
        with self._database.write(urgent=True) as connection:
            this = (removals.c.id == removal_id) & removals.c.erasure_receipt.is_(None)
            connection.execute(update(removals).where(this).values(erasure_receipt=text, waits_for=None))
