"""Rows of a backup: the database continues to number after those that were restored."""

from sqlalchemy import select

from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.records import backup_table_rows
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import audit


def test_numbers_continue_after_those_of_restored_rows(database: Database) -> None:
    entry = {"tenant": "north", "by": "a test", "action": "read", "outcome": "done", "details": {}}
    restored = [{**entry, "number": number, "at": now().isoformat()} for number in (1, 7)]
    backup_table_rows.put(database, "audit", restored)
    with database.write() as connection:
        connection.execute(audit.insert().values(**entry, at=now()))
    with database.read() as connection:
        assert connection.execute(select(audit.c.number).order_by(audit.c.number)).scalars().all() == [1, 7, 8]
