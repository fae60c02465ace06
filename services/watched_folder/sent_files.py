"""Record which files of a watched folder were sent, so that a restart continues there.

A sent file is not sent again automatically: it may have been removed since, and would be stored again.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from visual_memory.schemas.errors import Conflict

PRUNE_SECONDS = 90 * 86_400.0
"""How long deleted files are remembered; after that, the same file would be sent again."""
PRUNE_BATCH = 1_000
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
    """Size and modification time of a file, by which changes are detected without reading it."""

    size: int
    modified: int


@dataclass(frozen=True)
class SentFile:
    """A file that was sent.

    Attributes:
        path: within the folder, in the file system's encoding.
        stamp: of the file when it was sent.
        digest: the SHA-256 of its bytes.
        label: the label that was sent.
    """

    path: bytes
    stamp: Stamp
    digest: str
    label: str


class SentFiles:
    """The files that were sent, in a database that one process uses.

    Args:
        connection: to the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def stamp(self, path: bytes) -> Stamp | None:
        """Return the stamp of the file when it was sent; None: it was not."""
        row = self._connection.execute("select size, modified from sent where path = ?", (path,)).fetchone()
        return None if row is None else Stamp(*row)

    def paths_of_content(self, digest: str) -> dict[bytes, str]:
        """Return the paths from which a content was sent, with the labels."""
        return dict(self._connection.execute("select path, label from sent where digest = ?", (digest,)))

    def record(self, file: SentFile, instead_of: Iterable[bytes] = ()) -> None:
        """Record that a file was sent; durable when it returns.

        Args:
            file: the file.
            instead_of: its former paths, whose records are deleted.
        """
        row = (file.path, file.stamp.size, file.stamp.modified, file.digest, file.label, time.time())
        with self._connection:
            self._connection.executemany("delete from sent where path = ?", [(path,) for path in instead_of])
            self._connection.execute("insert or replace into sent values (?, ?, ?, ?, ?, ?)", row)

    def prune_deleted(self, folder: Path) -> None:
        """Delete records of files that were deleted long ago: a batch per call, until all were checked."""
        now = time.time()
        rows = self._connection.execute(
            "select path from sent where looked_at < ? order by looked_at limit ?",
            (now - PRUNE_SECONDS, PRUNE_BATCH),
        ).fetchall()
        with self._connection:
            for (path,) in rows:
                if (folder / os.fsdecode(path)).exists():
                    self._connection.execute("update sent set looked_at = ? where path = ?", (now, path))
                else:
                    self._connection.execute("delete from sent where path = ?", (path,))

    def clear(self) -> None:
        """Delete all records, so that every file is sent again."""
        with self._connection:
            self._connection.execute("delete from sent")


@contextmanager
def open_sent_files(file: Path) -> Iterator[SentFiles]:
    """Open the database of sent files, which no other process may use meanwhile.

    Raises:
        Conflict: another process uses it, or the file is not such a database.
    """
    with closing(sqlite3.connect(file, timeout=0)) as connection:
        try:
            connection.execute("pragma locking_mode = exclusive")
            connection.execute("pragma journal_mode = wal")
            connection.executescript(f"begin exclusive; {_TABLE} commit;")
        except sqlite3.OperationalError:
            raise Conflict(f"{file}: another process uses this state file; give each process its own") from None
        except sqlite3.DatabaseError as error:
            raise Conflict(f"{file}: this is not the state file of a watched folder: {error}") from None
        yield SentFiles(connection)
