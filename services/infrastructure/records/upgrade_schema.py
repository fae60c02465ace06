"""Upgrade the database to the schema of this version; the first process that starts does it.

Consecutive versions can run concurrently: a migration only adds (expand), and a later version drops what has become
unused (contract). So each migration names the oldest one whose programs still work with its schema, and an older
program refuses to start.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.records import database_flags, tables
from visual_memory.services.infrastructure.records.database import Database

HEAD = "0003"
"""The latest migration of this version."""
OLDEST = "0001"
"""The oldest migration whose programs work with this schema."""
LOCK = 0x76_6D_72_65_63
"""The PostgreSQL advisory lock for changes of the schema."""
SCHEMA = "schema"


def upgrade_schema(database: Database) -> None:
    """Create or migrate the tables, unless that was done already.

    Raises:
        Unavailable: a later version has changed the schema so that this one cannot use it.
    """
    if _is_ready(database):
        return
    with database.write(urgent=True) as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        migrate(connection)
        database_flags.set_flag(database, connection, SCHEMA, {"revision": HEAD, "oldest": OLDEST})


def _is_ready(database: Database) -> bool:
    with database.read() as connection:
        if not inspect(connection).has_table(tables.facts.name):
            return False
        schema = database_flags.get_flag(connection, SCHEMA)
    if schema is None or schema["revision"] < HEAD:
        return False
    if schema["oldest"] > HEAD:
        raise Unavailable(
            f"a later version has upgraded the records to schema {schema['revision']}, and this version knows {HEAD}:"
            " start the later version"
        )
    return True


def migrate(connection: Connection, revision: str = HEAD) -> None:
    """Migrate a database from its revision to a later one."""
    from alembic import command  # noqa: PLC0415 - it takes a while, and is needed once
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
