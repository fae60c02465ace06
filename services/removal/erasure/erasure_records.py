"""Which removals wait for their bytes to be erased, which are being erased, and which have their receipt of it."""

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
        """How many removals are done and not erased."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(_WAITS)).scalar_one()

    def is_due(self, wait: timedelta, moment: datetime) -> bool:
        """Whether a removal has waited for so long at a moment, or is to be erased at once."""
        due = _WAITS & (removals.c.erase_now | (removals.c.verified_at <= moment - wait))
        with self._database.read() as connection:
            return connection.execute(select(removals.c.id).where(due).limit(1)).first() is not None

    def is_due_at_once(self) -> bool:
        """Whether a removal that waits is to be erased at once."""
        with self._database.read() as connection:
            return (
                connection.execute(select(removals.c.id).where(_WAITS & removals.c.erase_now).limit(1)).first()
                is not None
            )

    def begin(self, connection: Connection, erasure: str, until: datetime, left: Mapping[str, datetime]) -> int:
        """Let an erasure that begins be of what was verified before a moment; returns how many removals that are.

        Args:
            connection: of the transaction.
            erasure: its id.
            until: the moment.
            left: tenants of whom there are files that may be of a removal, and since when.
        """
        clean = removals.c.tenant.not_in([*left]) & (removals.c.verified_at < until)
        rest = [(removals.c.tenant == tenant) & (removals.c.verified_at < since) for tenant, since in left.items()]
        begun = update(removals).where(_WAITS & or_(clean, *rest)).values(erasing=erasure)
        return connection.execute(begun).rowcount

    def of(self, erasure: str) -> Iterator[RemovalState]:
        """The removals of an erasure that it has not ended yet."""
        after = ""
        while found := self._records.found(_WAITS & (removals.c.erasing == erasure) & (removals.c.id > after), PAGE):
            yield from found
            after = found[-1].id

    def end(self, connection: Connection, removal_id: str, erasure: str, erased: bool, note: str) -> datetime:
        """Say that a removal is erased, once; returns when that was.

        Raises:
            Superseded: it is another erasure's by now, or was said already.
        """
        moment = self._database.moment(connection)
        this = _WAITS & (removals.c.id == removal_id) & (removals.c.erasing == erasure)
        said = update(removals).where(this).values(erased_at=moment, erased=erased, erasure_note=note, erasing=None)
        if connection.execute(said).rowcount != 1:
            raise Superseded(removal_id)
        return moment

    def without_receipt(self) -> list[RemovalState]:
        """Removals that are erased, and whose receipt of that was not given yet."""
        return self._records.found(removals.c.erased_at.is_not(None) & removals.c.erasure_receipt.is_(None), PAGE)

    def give_receipt(self, removal_id: str, text: str) -> None:
        """Give the receipt of an erasure, that was written to the mirror."""
        with self._database.write(urgent=True) as connection:
            this = (removals.c.id == removal_id) & removals.c.erasure_receipt.is_(None)
            connection.execute(update(removals).where(this).values(erasure_receipt=text, waits_for=None))
