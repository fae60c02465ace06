"""The receipts that were issued: those of removals and erasures whose entries the mirror has."""

from sqlalchemy import select

from visual_memory.schemas.errors import NotFound
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import removals

WAITING_FOR_MIRROR = "waiting for the mirror"
"""The beginning of the reason why a removal, or its erasure, has no receipt yet."""


class IssuedReceipts:
    """Reads issued receipts from the records of removals.

    Args:
        database: the records' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def text(self, tenant: str, removal_id: str, *, erasure: bool = False) -> str | None:
        """The receipt of a removal, or of its erasure; None if it is not issued yet.

        Raises:
            NotFound: there is no such removal.
        """
        column = removals.c.erasure_receipt if erasure else removals.c.receipt
        with self._database.read() as connection:
            query = select(column).where(removals.c.tenant == tenant, removals.c.id == removal_id)
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no removal {removal_id!r}")
        return None if row[0] is None else str(row[0])

    def is_issued(self, removal_id: str, receipt: str) -> bool:
        """Whether a text was issued as a receipt of a removal."""
        texts = select(removals.c.receipt, removals.c.erasure_receipt).where(removals.c.id == removal_id)
        with self._database.read() as connection:
            row = connection.execute(texts).one_or_none()
        return row is not None and receipt in tuple(row)

    def waiting_reason(self) -> str | None:
        """Why some receipt waits for the mirror; None if no receipt waits."""
        waiting = select(removals.c.waits_for).where(removals.c.waits_for.startswith(WAITING_FOR_MIRROR))
        with self._database.read() as connection:
            reason: str | None = connection.execute(waiting.limit(1)).scalar_one_or_none()
        return reason
