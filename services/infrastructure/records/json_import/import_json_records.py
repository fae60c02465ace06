"""Import the JSON records of earlier versions into the database: once, at the first start.

Nothing is served before the import is done. After a crash the next start begins it again, with the same result:
existing rows stay as they are, and no file is deleted before all rows are durable. Then all files are erased, because
they contain filters and subjects. Unreadable files are moved to a separate folder and logged.

Programs of earlier versions do not use the database: they must not run during the import or afterwards.
"""

import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import Connection, Table, func, select

from visual_memory.services.infrastructure.records import database_flags, tables
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.json_import import json_record_rows as rows
from visual_memory.services.infrastructure.records.json_import.json_files import JsonFiles
from visual_memory.services.infrastructure.records.json_import.record_kinds import FOLDERS, KINDS, Kind
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded

FACT = "json_records"
"""The flag that holds the state of the import: ``imported``, then ``erased``."""
LEASE = timedelta(seconds=10)
"""Longest wait of the next start if the one before was killed during the import."""
POLL = 0.2
AT_ONCE = 32
"""Files that are read at once; each may have 1 MB."""
ROWS = 2000
BYTES = 8 * 2**20
"""About how many rows, or bytes of JSON, are written in one transaction."""

log = logging.getLogger(__name__)


class Stores(Protocol):
    """Writes those records that only their own stores can write."""

    def read_decision(self, record: Any) -> Any:
        """See `rows.Others`."""

    def write_decision(self, connection: Connection, tenant: str, decision: Any) -> None:
        """Write a decision, as `read_decision` returned it, unless it exists."""

    def finish(self, connection: Connection) -> None:
        """Finish the import, in one transaction; called again if a crash follows before the next transaction."""


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        records: the number of records of each kind.
        damaged: the number of unreadable records.
        faults: what is wrong with the receipt log, a sentence each.
    """

    records: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A sentence."""
        counts = ", ".join(f"{count} of {kind}" for kind, count in self.records.items() if count) or "none"
        damaged = f"; {self.damaged} cannot be read, and were set aside" if self.damaged else ""
        return f"old records were moved into the database: {counts}{damaged}"


def import_json_records(
    database: Database,
    files: JsonFiles,
    evaluations: JsonFiles,
    stores: Stores,
    lease: timedelta = LEASE,
    name: str = FACT,
) -> Imported | None:
    """Import all records of earlier versions, and erase their files; waits while another process does it.

    Args:
        database: the database, with its tables.
        files: the old records.
        evaluations: the files of evaluations, which are not deleted.
        stores: writes some of the records.
        lease: how long the import is left to a process after each of its transactions.
        name: of the flag that holds the state; another one for files of a backup.

    Returns:
        what was imported; None if that had been done before, or there was nothing.

    Raises:
        Unavailable: the database or the files do not answer; the next start resumes the import.
    """
    leases = Leases(database)
    while _state(database, name) != "erased":
        with leases.held(name, lease) as held, suppress(Superseded):
            if held is not None:  # the state may have changed since it was read above
                return _Import(database, files, evaluations, stores, leases, held, name).run(_state(database, name))
        time.sleep(POLL)
    return None


def is_imported(database: Database, files: JsonFiles) -> bool:
    """Whether the old records of the service were imported and erased, or never existed."""
    state, there = _state(database, FACT), FOLDERS & {*files.folders()}
    if state is None and not there:
        fact = {"name": FACT, "value": {"state": "erased", "records": {}}}
        with database.write(urgent=True) as connection:
            connection.execute(database.insert(tables.facts).values(fact).on_conflict_do_nothing())
        return True
    if state == "erased" and there:
        log.error(
            "there are old records again (%s), which are not read: a program of an earlier version ran here after the"
            " records were moved into the database; move them away",
            ", ".join(sorted(there)),
        )
    return state == "erased"


def _state(database: Database, name: str) -> str | None:
    found = database_flags.read_flag(database, name)
    return None if found is None else found["state"]


@dataclass
class _Import:
    """One run, whose transactions all check the lease."""

    database: Database
    files: JsonFiles
    evaluations: JsonFiles
    stores: Stores
    leases: Leases
    lease: Lease
    name: str
    damaged: int = 0

    def run(self, state: str | None) -> Imported | None:
        imported = None
        if state is None:
            counts = {kind.folder: self._import(kind) for kind in KINDS}
            imported = Imported(counts, self.damaged, self._finish_log())
            self._set_state("imported", records=imported.records, damaged=imported.damaged, faults=imported.faults)
        self._erase()
        self._set_state("erased")
        if imported is None or (not any(imported.records.values()) and not imported.damaged):
            return None
        log.warning("%s", imported)
        for fault in imported.faults:
            log.error("%s", fault)
        return imported

    def read(self, key: str) -> Any:
        """The JSON of a record; None if it is missing or unreadable."""
        data = self.files.read(key)
        try:
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError):
            return None

    def encoder(self, digest: str) -> str | None:
        """See `rows.Others`."""
        return self._encoders.get(digest)

    def evaluation_files(self, tenant: str, evaluation_id: str) -> list[str]:
        """See `rows.Others`."""
        folder = f"{tenant}/{evaluation_id}"
        return sorted(key.removeprefix(f"{folder}/") for key in self.evaluations.keys(folder))

    def evaluation_file(self, tenant: str, evaluation_id: str, name: str) -> str:
        """See `rows.Others`."""
        return (self.evaluations.read(f"{tenant}/{evaluation_id}/{name}") or b"").decode()

    def read_decision(self, record: Any) -> Any:
        """See `rows.Others`."""
        return self.stores.read_decision(record)

    @cached_property
    def _encoders(self) -> dict[str, str]:
        """The names of the known encoders by the beginnings of their digests."""
        known = (self.read(key) for key in self.files.keys("encoders/known"))
        names = [str(spec["name"]) for spec in known if spec]
        active = self.read("encoders/active")
        return {sha256(name.encode()).hexdigest()[:8]: name for name in names} | (
            {"": active["name"]} if active else {}
        )

    def _import(self, kind: Kind) -> int:
        """Import all records of a kind; returns their number."""
        count, size, pending = 0, 0, list[rows.Row]()
        keys = self.files.keys(kind.folder)
        while batch := list(islice(keys, AT_ONCE)):
            for key, data in zip(batch, self.files.read_some(batch), strict=True):
                if data is not None:
                    made = self._rows_of(kind, key, data)
                    count, size = count + bool(made), size + len(data)
                    pending += made
            if len(pending) >= ROWS or size >= BYTES:
                self._write(kind, pending)
                size, pending = 0, []
        self._write(kind, pending)
        return count

    def _rows_of(self, kind: Kind, key: str, data: bytes) -> list[rows.Row]:
        try:
            return list(kind.to_rows(key, json.loads(data), self))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            log.error("the old record %s cannot be read (%s), and is set aside", key, type(error).__name__)  # noqa: TRY400
            self.files.set_aside(key)
            self.damaged += 1
            return []

    def _write(self, kind: Kind, pending: Sequence[rows.Row]) -> None:
        by_table: dict[Table, list[dict[str, Any]]] = {}
        for table, row in pending:
            by_table.setdefault(table, []).append(row)
        with self.database.write(urgent=True) as connection:
            self.leases.check(connection, self.lease)
            for table, some in by_table.items():
                if table is tables.decisions:
                    for row in some:
                        self.stores.write_decision(connection, row["tenant"], row["stored"])
                    continue
                there = some if kind.parent is None else _with_parents(connection, *kind.parent, some)
                if there:
                    connection.execute(self.database.insert(table).on_conflict_do_nothing(), there)

    def _finish_log(self) -> list[str]:
        """Finish the receipt log of each tenant; returns its faults."""
        entries, faults = tables.receipt_log, []
        with self.database.write(urgent=True) as connection:
            self.leases.check(connection, self.lease)
            ends = select(entries.c.tenant, func.max(entries.c.number), func.count())
            ends = ends.where(entries.c.version == 1).group_by(entries.c.tenant)
            found = {tenant: (last, count) for tenant, last, count in connection.execute(ends)}
            self.stores.finish(connection)
        for tenant in {*found, *(key.rpartition("/")[2] for key in self.files.keys("log-end"))}:
            last, count = found.get(tenant, (0, 0))
            end = max(last, int(self.read(f"log-end/{tenant}") or 0))
            if count < end:
                faults.append(f"the log of {tenant} had {end} entries before it was imported, and {count} are there")
        return faults

    def _set_state(self, state: str, **more: Any) -> None:
        with self.database.write(urgent=True) as connection:
            self.leases.check(connection, self.lease)
            before = database_flags.get_flag(connection, self.name) or {}
            value = {**before, **more, "state": state, "at": self.database.moment(connection).isoformat()}
            database_flags.set_flag(self.database, connection, self.name, value)

    def _erase(self) -> None:
        """Delete the files."""
        for folder in sorted(FOLDERS):
            deleted = True
            while deleted:  # the listing of a folder that changes may be incomplete
                keys, deleted = self.files.keys(folder), False
                while batch := list(islice(keys, ROWS)):
                    self.leases.renew(self.lease)
                    self.files.delete(batch)
                    deleted = True
        self.files.delete_folders()


def _with_parents(
    connection: Connection, parent: Table, column: str, some: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows whose parent exists, and is no finished removal."""
    wanted = {row[column] for row in some}
    found = select(parent.c.id).where(parent.c.id.in_(wanted))
    if parent is tables.removals:
        found = found.where(parent.c.step != "done")
    there = set(connection.execute(found).scalars())
    return [row for row in some if row[column] in there]
