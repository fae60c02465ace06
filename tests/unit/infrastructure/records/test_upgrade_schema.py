"""The schema is made once, whoever comes first, and is what the tables say."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.support.databases import KINDS, fresh_database, new_postgresql
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import facts, metadata
from visual_memory.services.infrastructure.records.upgrade_schema import upgrade_schema


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """One whose tables may be changed."""
    with fresh_database(request.param, tmp_path / "records") as made:
        yield made


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_several_who_start_at_once_make_it_once(kind: str, tmp_path: Path) -> None:
    url = new_postgresql() if kind == "postgresql" else f"sqlite:///{tmp_path / 'records.db'}"
    databases = [Database(url) for _ in range(4)]
    if kind == "postgresql":
        with databases[0].write() as connection:
            metadata.drop_all(connection)
            connection.exec_driver_sql("DROP TABLE alembic_version")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade_schema, databases))
    for database in databases:
        database.ping()
        database.close()


def test_a_version_that_adds_columns_lets_the_one_before_work(database: Database) -> None:
    _say(database, {"revision": "9999", "oldest": "0001"})
    upgrade_schema(database)


def test_a_version_that_cannot_work_with_the_schema_does_not_start(database: Database) -> None:
    _say(database, {"revision": "9999", "oldest": "9998"})
    with pytest.raises(Unavailable, match="start the later version"):
        upgrade_schema(database)


def _say(database: Database, schema: dict[str, str]) -> None:
    with database.write() as connection:
        connection.execute(facts.update().where(facts.c.name == "schema").values(value=schema))
