"""Brings a database to the schema of this version, once, whichever process comes first.

Versions one apart run side by side: a migration only adds (expand), and what it makes useless goes in a later version
(contract). So each migration names the oldest one whose programs still work on its schema, and an older program refuses
to start.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.records import database_flags, tables
from visual_memory.services.infrastructure.records.database import Database

HEAD = "0002"
"""The latest migration of this version."""
OLDEST = "0001"
"""The oldest migration whose programs still work after it."""
LOCK = 0x76_6D_72_65_63
"""The advisory lock of PostgreSQL under which the schema is changed."""
SCHEMA = "schema"


def upgrade_schema(database: Database) -> None:
    """Make the tables, or change them, where that was not done yet.

    Raises:
        Unavailable: a later version has changed them so that this one cannot work with them.
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
            f"the records were brought to schema {schema['revision']} by a later version, and this one knows {HEAD}:"
            " start the later version"
        )
    return True


def migrate(connection: Connection, revision: str = HEAD) -> None:
    """Bring a database to a revision, from whichever it has."""
    from alembic import command  # noqa: PLC0415 - it takes a while, and is needed once
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
