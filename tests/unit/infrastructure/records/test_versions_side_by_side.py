"""Versions one apart run side by side on one database: a migration adds (expand), and takes away a version later.

So a program of the oldest version that a migration names must be able to write and read all that it knows of. This
holds the migrations against that, and shows that it would notice those that break it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Connection, DateTime, MetaData, Table, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from tests.support.databases import KINDS, fresh_database
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import metadata
from visual_memory.services.infrastructure.records.upgrade_schema import HEAD, OLDEST, migrate

NOT_OURS = "alembic_version"
VALUES = {str: "x", int: 1, float: 1.0, bool: True}
MOMENT = datetime(2026, 1, 31, tzinfo=UTC)
EXPANDING = [
    "ALTER TABLE keys ADD COLUMN colour VARCHAR",
    "ALTER TABLE jobs ADD COLUMN weight INTEGER NOT NULL DEFAULT 1",
    "CREATE TABLE further (id VARCHAR PRIMARY KEY)",
    "CREATE INDEX ix_further ON keys (name)",
]
BREAKING = [
    "ALTER TABLE keys ADD COLUMN colour VARCHAR NOT NULL",
    "ALTER TABLE keys RENAME COLUMN name TO title",
    "ALTER TABLE schedule DROP COLUMN finished",
    "DROP TABLE idempotency",
]


def known_to_the_version(connection: Connection, revision: str) -> MetaData:
    """The tables that programs of a version know, which the database then has."""
    metadata.drop_all(connection)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {NOT_OURS}")
    migrate(connection, revision)
    known = MetaData()
    known.reflect(connection)
    known.remove(known.tables[NOT_OURS])
    return known


def use(connection: Connection, known: MetaData) -> None:
    """Write, change, read and delete a row of each table, by the columns that are known."""
    for table in known.sorted_tables:
        row = {column.name: value_of(column) for column in table.columns}
        connection.execute(insert(table).values(row))
    for table in reversed(known.sorted_tables):
        column = next((each for each in table.columns if not each.primary_key), None)
        if column is not None:
            assert connection.execute(update(table).values({column.name: value_of(column)})).rowcount == 1
        assert len(connection.execute(select(table)).all()) == 1
        assert connection.execute(delete(table)).rowcount == 1


def value_of(column: Column[Any]) -> object:
    if isinstance(column.type, JSON):
        return {}
    if isinstance(column.type, DateTime):
        return MOMENT if column.type.timezone else MOMENT.replace(tzinfo=None)
    return VALUES[column.type.python_type]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """One whose tables may be changed."""
    with fresh_database(request.param, tmp_path / "records") as made:
        yield made


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.write() as opened:
        yield opened


def test_the_oldest_version_that_is_named_works_on_the_schema_of_this_one(connection: Connection) -> None:
    known = known_to_the_version(connection, OLDEST)
    migrate(connection, HEAD)
    use(connection, known)


def test_this_version_works_on_a_schema_that_only_adds(connection: Connection) -> None:
    known = known_to_the_version(connection, HEAD)
    for statement in EXPANDING:
        connection.exec_driver_sql(statement)
    use(connection, known)


@pytest.mark.parametrize("statement", BREAKING)
def test_a_migration_that_takes_away_or_demands_is_noticed(database: Database, statement: str) -> None:
    with database.write() as connection:
        known = known_to_the_version(connection, HEAD)
        use(connection, known)

    def break_it() -> None:
        with database.write() as connection:
            connection.exec_driver_sql(statement)
            use(connection, known)

    with pytest.raises((SQLAlchemyError, Unavailable)):
        break_it()


def test_it_uses_every_table(connection: Connection) -> None:
    known = known_to_the_version(connection, HEAD)
    assert {*known.tables} == {*metadata.tables}
    assert all(isinstance(table, Table) for table in known.tables.values())
