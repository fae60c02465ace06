"""Read and write whole tables as JSON rows, for backups and restores."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from visual_memory.services.infrastructure.records.column_types import Moment
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import metadata

PAGE = 1000

Row = dict[str, Any]


def tables() -> list[Table]:
    """All tables, each after those that it refers to."""
    return metadata.sorted_tables


def pages(connection: Connection, table: Table) -> Iterator[list[Row]]:
    """All rows of a table, a page at a time."""
    rows = connection.execution_options(yield_per=PAGE).execute(select(table))
    for page in rows.mappings().partitions():
        yield [{name: _written(value) for name, value in row.items()} for row in page]


def put(database: Database, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows into a table; numbers that the database gives out continue after theirs.

    Raises:
        KeyError: this version has no such table or column.
    """
    table = metadata.tables[name]
    read = [{column: _read(table, column, value) for column, value in row.items()} for row in rows]
    with database.write(urgent=True) as connection:
        connection.execute(insert(table), read)
        number = table.autoincrement_column
        if number is not None and not database.is_sqlite:  # SQLite continues after the largest one by itself
            sequence = func.pg_get_serial_sequence(table.name, number.name)
            connection.execute(select(func.setval(sequence, select(func.max(number)).scalar_subquery())))


def holding_rows(database: Database, names: Sequence[str]) -> list[str]:
    """The names of those tables that are not empty."""
    with database.read() as connection:
        counts = {name: select(func.count()).select_from(metadata.tables[name]) for name in names}
        return [name for name, count in counts.items() if connection.execute(count).scalar_one()]


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _read(table: Table, column: str, value: Any) -> Any:
    is_moment = isinstance(table.c[column].type, Moment)
    return datetime.fromisoformat(value) if is_moment and value is not None else value
