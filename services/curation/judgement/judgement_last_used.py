"""Record that somebody reads a tenant's judgement: memories whose judgement nobody reads are not judged again."""

from contextlib import suppress
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, select

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import judgement_uses


class JudgementUses:
    """The uses of the judgements by one encoder's vectors.

    Args:
        database: the records' database.
        encoder: the encoder's name.
    """

    def __init__(self, database: Database, encoder: str) -> None:
        self._database = database
        self._encoder = encoder
        self._recorded: dict[str, str] = {}

    def record(self, tenant: str, judgement_id: str) -> None:
        """Record that a judgement is used, once per judgement and process; the id is empty if there is none."""
        if self._recorded.get(tenant) != judgement_id:
            with suppress(VisualMemoryError):  # a reader must not fail because the database does not accept the record
                self._insert(tenant)
                self._recorded[tenant] = judgement_id

    def all(self) -> dict[str, datetime]:
        """The tenants whose current judgement, or whose lack of one, was used, and when first."""
        query = select(judgement_uses.c.tenant, judgement_uses.c.at).where(judgement_uses.c.encoder == self._encoder)
        with self._database.read() as connection:
            return {row.tenant: row.at for row in connection.execute(query)}

    def clear(self, connection: Connection, tenant: str) -> None:
        """Delete a tenant's record, as part of the transaction that stores a new judgement."""
        connection.execute(delete(judgement_uses).where(self._of_encoder(), judgement_uses.c.tenant == tenant))

    def clear_all(self, connection: Connection) -> None:
        """Delete the records of all tenants, as part of a transaction."""
        connection.execute(delete(judgement_uses).where(self._of_encoder()))

    def _of_encoder(self) -> ColumnElement[bool]:
        return judgement_uses.c.encoder == self._encoder

    def _insert(self, tenant: str) -> None:
        with self._database.write() as connection:
            row = {"tenant": tenant, "encoder": self._encoder, "at": self._database.moment(connection)}
            connection.execute(self._database.insert(judgement_uses).values(row).on_conflict_do_nothing())
