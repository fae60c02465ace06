"""Facts: what is said once of all the records, such as that a restore did not end; each by its name."""

from typing import Any

from sqlalchemy import Connection, delete, select

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import facts

RESTORE = "restore_unfinished"
"""That a restore was begun and did not end."""


def get_flag(connection: Connection, name: str) -> Any:
    """What is said; None where nothing is."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def set_flag(database: Database, connection: Connection, name: str, value: Any) -> None:
    """Say it, instead of what was said before."""
    insert = database.insert(facts).values(name=name, value=value)
    connection.execute(insert.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": value}))


def clear_flag(connection: Connection, name: str) -> None:
    """Say nothing any more."""
    connection.execute(delete(facts).where(facts.c.name == name))


def read_flag(database: Database, name: str) -> Any:
    """What is said, in a transaction of its own."""
    with database.read() as connection:
        return get_flag(connection, name)
