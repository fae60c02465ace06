"""Import the audit log of earlier versions, one file on each machine, into the database."""

import json
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from visual_memory.services.infrastructure.records import database_flags
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.json_import.json_record_rows import audit_line
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.records.tables import audit

LINES = 2000
"""Lines that are imported in one transaction."""
LEASE = timedelta(seconds=10)
POLL = 0.2
BEGINNING = b'{"at": '
"""The beginning of each line; no string within a line contains it, because its quotes would be escaped."""

log = logging.getLogger(__name__)


def import_audit_file(database: Database, path: Path, lease: timedelta = LEASE) -> int:
    """Import every line once, and erase the file; a crash neither loses nor duplicates a line.

    Args:
        database: the database, with its tables.
        path: of this machine's file, which no process writes any more.
        lease: as in `services.infrastructure.records.json_import.import_json_records`.

    Returns:
        the number of imported lines.

    Raises:
        Unavailable: the database does not answer; the next start resumes the import.
    """
    digest = sha256(f"{socket.gethostname()}:{path.absolute()}".encode()).hexdigest()
    name, leases, count = f"audit_file:{digest[:16]}", Leases(database), 0
    while path.exists() or _progress(database, name):
        with leases.held(name, lease) as held, suppress(Superseded):
            if held is not None:
                count = _Import(database, leases, held, name).run(path)
        time.sleep(0 if held else POLL)
    if count:
        log.warning("the audit log was moved into the database: %d lines", count)
    return count


def _progress(database: Database, name: str) -> dict[str, int]:
    return database_flags.read_flag(database, name) or {}


class _Import:
    """One run, whose transactions all check the lease; its progress is stored in a flag."""

    def __init__(self, database: Database, leases: Leases, lease: Lease, name: str) -> None:
        self._database, self._leases, self._lease = database, leases, lease
        self._name = name

    def run(self, path: Path) -> int:
        """Import the rest of the file, then erase it; returns the total number of lines."""
        progress = _progress(self._database, self._name)
        offset, count = progress.get("place", 0), progress.get("lines", 0)
        if path.exists():  # else it was erased just before the process was killed
            count = self._read(path, offset, count)
        path.unlink(missing_ok=True)
        with self._database.write(urgent=True) as connection:
            database_flags.clear_flag(connection, self._name)
        return count

    def _read(self, path: Path, offset: int, count: int) -> int:
        with path.open("rb") as file:
            file.seek(offset)
            while lines := list(islice(file, LINES)):
                rows = [row for line in lines for row in _row(line)]
                offset, count = offset + sum(map(len, lines)), count + len(rows)
                with self._database.write(urgent=True) as connection:
                    self._leases.check(connection, self._lease)
                    self._write(connection, rows, {"place": offset, "lines": count})
        return count

    def _write(self, connection: Connection, rows: Sequence[dict[str, Any]], value: dict[str, int]) -> None:
        if rows:
            connection.execute(audit.insert(), rows)
        database_flags.set_flag(self._database, connection, self._name, value)


def _row(line: bytes) -> Iterator[dict[str, Any]]:
    """The row of a line, without a fragment before it that a full disk cut off; none if there is none."""
    try:
        yield audit_line(json.loads(line[max(0, line.rfind(BEGINNING)) :]))
    except (ValueError, KeyError, TypeError, AttributeError):
        if line.strip():
            log.error("a line of the audit log cannot be read, and is left out")  # noqa: TRY400 - no data
