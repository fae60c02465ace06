"""Which files of a watched folder were sent, so that it goes on where it was.

What was sent once is not sent again by itself: a removal may have taken it since, and it would come back.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from visual_memory.schemas.errors import Conflict

KEPT_SECONDS = 90 * 86_400.0
"""How long it is known of a file that is gone; after that the same file would be sent again."""
CHECKED_AT_ONCE = 1_000
_TABLE = """
create table if not exists sent (
    path blob primary key, size integer not null, modified integer not null, digest text not null,
    label text not null, looked_at real not null
) without rowid;
create index if not exists sent_by_digest on sent (digest);
create index if not exists sent_by_time on sent (looked_at);
"""


@dataclass(frozen=True)
class Stamp:
    """By what a file is known to be as it was, without reading it: its size, and when it was last written to."""

    size: int
    modified: int


@dataclass(frozen=True)
class SentFile:
    """A file that was sent.

    Attributes:
        path: within the folder, as the file system has it.
        digest: the SHA-256 of its bytes.
        label: what it was labelled with.
    """

    path: bytes
    stamp: Stamp
    digest: str
    label: str


class SentFiles:
    """The files that were sent, in a database of one process.

    Args:
        connection: of the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def stamp(self, path: bytes) -> Stamp | None:
        """How the file at a path was when it was sent; None: it never was."""
        row = self._connection.execute("select size, modified from sent where path = ?", (path,)).fetchone()
        return None if row is None else Stamp(*row)

    def with_content(self, digest: str) -> dict[bytes, str]:
        """The paths from which a content was sent, with the labels that it had there."""
        return dict(self._connection.execute("select path, label from sent where digest = ?", (digest,)))

    def note(self, file: SentFile, instead_of: Iterable[bytes] = ()) -> None:
        """Note that a file was sent; durable when it returns.

        Args:
            file: the file.
            instead_of: paths that it had before, which are forgotten.
        """
        row = (file.path, file.stamp.size, file.stamp.modified, file.digest, file.label, time.time())
        with self._connection:
            self._connection.executemany("delete from sent where path = ?", [(path,) for path in instead_of])
            self._connection.execute("insert or replace into sent values (?, ?, ?, ?, ?, ?)", row)

    def forget_gone(self, folder: Path) -> None:
        """Forget some of the files that have been gone for long; called again and again, it comes to all of them."""
        now = time.time()
        rows = self._connection.execute(
            "select path from sent where looked_at < ? order by looked_at limit ?",
            (now - KEPT_SECONDS, CHECKED_AT_ONCE),
        ).fetchall()
        with self._connection:
            for (path,) in rows:
                if (folder / os.fsdecode(path)).exists():
                    self._connection.execute("update sent set looked_at = ? where path = ?", (now, path))
                else:
                    self._connection.execute("delete from sent where path = ?", (path,))

    def forget_all(self) -> None:
        """Forget every file, so that all are sent again."""
        with self._connection:
            self._connection.execute("delete from sent")


@contextmanager
def open_sent_files(file: Path) -> Iterator[SentFiles]:
    """The files that were sent, as noted in a database, which no other process may use meanwhile.

    Raises:
        Conflict: another process does, or it is no such database.
    """
    with closing(sqlite3.connect(file, timeout=0)) as connection:
        try:
            connection.execute("pragma locking_mode = exclusive")
            connection.execute("pragma journal_mode = wal")
            connection.executescript(f"begin exclusive; {_TABLE} commit;")
        except sqlite3.OperationalError:
            raise Conflict(f"{file}: another process watches with this state; give each one of its own") from None
        except sqlite3.DatabaseError as error:
            raise Conflict(f"{file}: this is no state of a watched folder: {error}") from None
        yield SentFiles(connection)
