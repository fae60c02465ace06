"""The records' database: SQLite in the data folder, or PostgreSQL.

SQLite serialises writing transactions; PostgreSQL runs them concurrently at READ COMMITTED. So every decision is made
by one statement, such as an UPDATE with a condition whose `rowcount` is checked, or on a row that was locked before.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.moments import now

CONNECTIONS = 16
"""Connections that a process keeps open; it opens as many more when needed."""
SECONDS = 10
"""Timeout for a connection, a lock of SQLite, or an answer of PostgreSQL."""
FULL = ("database or disk is full", "No space left", "disk full")
CHECKPOINTS = 6
"""How many attempts are made to empty SQLite's log, each with the timeout above."""
_WRITES = "visual_memory_writes"

Value = TypeVar("Value")
Within = Callable[[Connection, str], object]
"""Called with the transaction and the record's id, as the last step of the transaction; an error rolls it back."""


def nothing_else(_connection: Connection, _record: str) -> None:
    """The `Within` that does nothing."""


def batches(values: Iterable[Value], size: int = 500) -> Iterator[list[Value]]:
    """Split values into lists that one statement can take."""
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch


class Database:
    """A database; thread-safe.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql+psycopg://...``.
        check_space: called before each writing transaction with whether it is urgent, as a removal is; raises
            `OutOfSpace` if the disk of this machine has too little free space.
    """

    def __init__(self, url: str | URL, check_space: Callable[[bool], object] = lambda _urgent: None) -> None:
        self._url = make_url(str(url).replace("postgres://", "postgresql://", 1) if isinstance(url, str) else url)
        self._check_space = check_space
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        # a lock wakes the next thread at once, while SQLite polls
        self._write_lock = threading.Lock() if self.is_sqlite else nullcontext()
        engine = _sqlite(self._url) if self.is_sqlite else _postgresql(self._url)
        self._engine = engine.execution_options(preserve_rowcount=True)  # of an INSERT too, which may do nothing
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @classmethod
    def in_folder(cls, folder: Path, check_space: Callable[[bool], object] = lambda _urgent: None) -> "Database":
        """The SQLite database of a data folder, which is created if missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(URL.create("sqlite", database=str(folder / "records.db")), check_space)

    @contextmanager
    def write(self, urgent: bool = False) -> Iterator[Connection]:
        """A writing transaction: durable when the block ends, rolled back if it raises.

        Args:
            urgent: may use the disk space that is reserved for removals.

        Raises:
            OutOfSpace: the disk is full, or too full for a write that is not urgent.
            Unavailable: the database does not answer, or cannot be written to.
        """
        if self.is_sqlite:
            self._check_space(urgent)
        with _translated(), self._write_lock, self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            Unavailable: the database does not answer.
        """
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """As `read`, but all statements see the same state of the database.

        Raises:
            Unavailable: the database does not answer.
        """
        with self.read() as connection:
            if not self.is_sqlite:  # a transaction of SQLite sees one state in any case
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield connection

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that supports ON CONFLICT, which both databases spell alike."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def serial(self, connection: Connection, name: str, *, shared: bool = False) -> None:
        """Wait until no other transaction holds the lock of this name; later reads see what those have written.

        Args:
            connection: of a writing transaction, which holds the lock until it ends. SQLite serialises them anyway.
            name: the name of the lock, such as ``judgements:TENANT``.
            shared: whether other shared holders are allowed.
        """
        if not self.is_sqlite:
            lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
            connection.execute(select(lock(func.hashtextextended(name, 0))))

    def moment(self, connection: Connection) -> datetime:
        """The current time by the database's clock, which all processes share."""
        if self.is_sqlite:
            return now()
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment

    def clock_difference(self) -> float:
        """By how many seconds, at least, the clock of this process is ahead of the database's; negative: behind."""
        before = now()
        with self.read() as connection:
            moment = self.moment(connection)
        if before > moment:
            return (before - moment).total_seconds()
        return min(0.0, (now() - moment).total_seconds())

    def erase_deleted(self) -> str:
        """Erase deleted rows from the files, as far as the database can.

        Returns:
            what its operator must do in addition; empty if nothing.

        Raises:
            Unavailable: it does not answer, or its log was in use all the time.
        """
        if self.is_sqlite:  # secure_delete overwrites freed pages at once, but the log still has them
            for _ in range(CHECKPOINTS):
                with _translated(), self._write_lock, self._engine.connect() as connection:
                    busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                if not busy:
                    return ""
            raise Unavailable("the records' database is read without a pause: its log could not be emptied")
        with _translated(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))  # it takes as long as the tables are large
            connection.execute(text("VACUUM"))
            connection.execute(text("RESET statement_timeout"))
        return (
            "PostgreSQL was told to clear deleted rows (VACUUM); its write-ahead log, replicas and backups are its"
            " operator's."
        )

    def ping(self) -> None:
        """Return if the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all connections; call no other method afterwards."""
        self._engine.dispose()


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=SECONDS,
        connect_args={"timeout": SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin explicitly, not with the first INSERT
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    options = url.query.get("options", "")
    timeouts = f"-c statement_timeout={SECONDS * 1000} -c lock_timeout={SECONDS * 1000}"
    return create_engine(
        url.set(drivername="postgresql+psycopg").update_query_dict({"options": f"{options} {timeouts}".strip()}),
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=SECONDS,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": SECONDS},
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Translate errors of the drivers to the service's own, except violated constraints."""
    try:
        yield
    except (OperationalError, InterfaceError, NoConnection) as error:
        message = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        if any(text in message for text in FULL):
            raise OutOfSpace("the disk of the records is full: free some space, then send it again") from error
        raise Unavailable(f"the records' database does not answer: {message}") from error
