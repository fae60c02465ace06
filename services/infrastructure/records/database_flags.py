"""Named flags of the whole database, such as an unfinished restore or the version of the schema."""

from typing import Any

from sqlalchemy import Connection, delete, select

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import facts

RESTORE = "restore_unfinished"
"""Set while a restore is unfinished."""


def get_flag(connection: Connection, name: str) -> Any:
    """The value of a flag; None if it is not set."""
    return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def set_flag(database: Database, connection: Connection, name: str, value: Any) -> None:
    """Set a flag, replacing its value."""
    insert = database.insert(facts).values(name=name, value=value)
    connection.execute(insert.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": value}))


def clear_flag(connection: Connection, name: str) -> None:
    """Clear a flag."""
    connection.execute(delete(facts).where(facts.c.name == name))


def read_flag(database: Database, name: str) -> Any:
    """The value of a flag, read in a separate transaction."""
    with database.read() as connection:
        return get_flag(connection, name)
