"""The log of receipts: for each tenant a chain of signed entries with a sealed end, so that any change is detected.

Each entry is a signed text whose payload contains the digest of the entry before. The sealed end is a signed statement
of the last entry, and changes with it in one transaction. To cut entries off undetected, an attacker also needs an
earlier valid end. Receipts that were issued, and the mirror (`mirror.mirror_files`), detect that as well.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, union, update

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import RECEIPTS, TYPES, VERSION, Event, Payload
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, receipt_log_ends
from visual_memory.services.receipts.check_log_entry import LogEntry, end_faults, entry_faults
from visual_memory.services.receipts.receipt_signature import (
    END,
    ENTRY,
    RECEIPT,
    NotValid,
    ReceiptSigner,
    digest,
    format_time,
)

FIRST = "0" * 64
"""The digest that the first entry follows."""
PAGE = 500
TAMPERED = (
    "the sealed end of the log of receipts is not this service's: it was changed, or the secret is another one than"
    " before; nothing is appended. `visual-memory verify-removals` says more"
)


class DuplicateEntry(Exception):
    """The log already has this event of this removal: another process did the work, and this transaction is undone."""


class ReceiptLog:
    """The logs of all tenants.

    Args:
        database: the records' database.
        signer: of this service.
    """

    def __init__(self, database: Database, signer: ReceiptSigner) -> None:
        self.database = database
        self.signer = signer

    def append(self, connection: Connection, tenant: str, removal_id: str, payload: Payload) -> LogEntry:
        """Append an entry, as the last statement of a transaction: until it ends, other appends wait.

        Raises:
            DuplicateEntry: the log already has this event of this removal.
            Unavailable: the log's end was tampered with.
        """
        number, previous = self._lock_end(connection, tenant)
        if self.find(connection, tenant, removal_id, payload.event):
            raise DuplicateEntry(f"{payload.event} of {removal_id}")
        at = self.database.moment(connection)
        fields = {
            **payload.model_dump(mode="json"),
            "version": VERSION,
            "type": TYPES[payload.event],
            "event": payload.event,
            "tenant": tenant,
            "removal": removal_id,
            "at": format_time(at),
            "number": number + 1,
            "previous": previous,
        }
        text = self.signer.sign(RECEIPT if payload.event in RECEIPTS else ENTRY, fields)
        entry = LogEntry(tenant, number + 1, payload.event, removal_id, at, text, digest(text))
        self._insert(connection, [entry])
        self._seal(connection, entry)
        return entry

    def find(self, connection: Connection, tenant: str, removal_id: str, event: Event) -> LogEntry | None:
        """The entry of an event; the latest one, because versions before 2 wrote several."""
        of_removal = (receipt_log.c.tenant == tenant) & (receipt_log.c.removal == removal_id)
        entries = select(receipt_log).where(of_removal & (receipt_log.c.event == event))
        row = connection.execute(entries.order_by(receipt_log.c.number.desc()).limit(1)).one_or_none()
        return None if row is None else _entry(row)

    def find_one(self, tenant: str, removal_id: str, event: Event) -> LogEntry | None:
        """The entry of an event, read in a transaction of this call."""
        with self.database.read() as connection:
            return self.find(connection, tenant, removal_id, event)

    def entries(self, tenant: str, after: int = 0) -> Iterator[LogEntry]:
        """A tenant's entries after a number, in order."""
        rows = select(receipt_log).where(receipt_log.c.tenant == tenant).order_by(receipt_log.c.number).limit(PAGE)
        while True:
            with self.database.read() as connection:
                page = [_entry(row) for row in connection.execute(rows.where(receipt_log.c.number > after))]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].number

    def entry(self, tenant: str, number: int) -> LogEntry | None:
        """The entry with a number."""
        this = (receipt_log.c.tenant == tenant) & (receipt_log.c.number == number)
        with self.database.read() as connection:
            row = connection.execute(select(receipt_log).where(this)).one_or_none()
        return None if row is None else _entry(row)

    def end(self, tenant: str) -> int:
        """The number of the last entry according to the sealed end; 0 if there is none."""
        with self.database.read() as connection:
            end = select(receipt_log_ends.c.number).where(receipt_log_ends.c.tenant == tenant)
            return connection.execute(end).scalar_one_or_none() or 0

    def tenants(self) -> list[str]:
        """The tenants that have a log."""
        with self.database.read() as connection:
            return sorted(
                connection.execute(union(select(receipt_log.c.tenant), select(receipt_log_ends.c.tenant))).scalars()
            )

    def faults(self, tenant: str) -> Iterator[str]:
        """What is wrong with a tenant's log, one sentence each; entries may be appended meanwhile."""
        of_tenant = receipt_log.c.tenant == tenant
        with self.database.read() as connection:  # one statement, so that end and rows are from one moment
            last = select(func.max(receipt_log.c.number)).where(of_tenant).scalar_subquery()
            columns = (receipt_log_ends.c.number, receipt_log_ends.c.digest, receipt_log_ends.c.seal, last)
            found = connection.execute(select(*columns).where(receipt_log_ends.c.tenant == tenant)).one_or_none()
            if found is None:
                if connection.execute(select(receipt_log.c.number).where(of_tenant).limit(1)).first():
                    yield "the log has no sealed end: it was taken out"
                return
        end, end_digest, seal, last_number = found
        yield from end_faults(tenant, end, end_digest, seal, self.signer)
        if (last_number or 0) > end:
            yield f"the log has entries after its sealed end, which is {end}"
        number, previous = 0, FIRST
        for entry in self.entries(tenant):
            if entry.number > end:
                break
            yield from (f"entry {missing} of the log is missing" for missing in range(number + 1, entry.number))
            yield from entry_faults(entry, previous, self.signer)
            number, previous = entry.number, entry.digest
        if number < end:
            yield f"the log breaks off after entry {number}, and its sealed end is {end}: entries were cut off"
        elif previous != end_digest:
            yield f"the sealed end of the log is of another entry {end}"

    def append_mirrored(self, connection: Connection, entries: Sequence[LogEntry]) -> None:
        """Append entries that a mirror has after the log's end, after checking them.

        Raises:
            NotValid: an entry is not of this service, or does not follow the one before.
        """
        for entry in entries:
            number, previous = self._lock_end(connection, entry.tenant)
            fault = next(entry_faults(entry, previous, self.signer), "")
            if entry.number != number + 1 or fault:
                raise NotValid(fault or f"entry {entry.number} of the log does not follow entry {number}")
            self._insert(connection, [entry])
            self._seal(connection, entry)

    def seal_imported(self, connection: Connection, tenant: str) -> None:
        """Seal the end of a log that was imported from a version without ends, if it has none yet."""
        rows = select(receipt_log).where(receipt_log.c.tenant == tenant).order_by(receipt_log.c.number.desc())
        row = connection.execute(rows.limit(1)).one_or_none()
        if row is not None and self._make_end(connection, tenant):
            self._seal(connection, _entry(row))

    def _lock_end(self, connection: Connection, tenant: str) -> tuple[int, str]:
        """Number and digest of the last entry; no other process appends until the transaction ends."""
        self._make_end(connection, tenant)
        ends = select(receipt_log_ends).where(receipt_log_ends.c.tenant == tenant)
        end = connection.execute(ends.with_for_update()).one()
        if end.number == 0 and not end.seal:
            if connection.execute(select(receipt_log.c.number).where(receipt_log.c.tenant == tenant)).first():
                raise Unavailable(TAMPERED)
        elif any(end_faults(tenant, end.number, end.digest, end.seal, self.signer)):
            raise Unavailable(TAMPERED)
        return end.number, end.digest

    def _make_end(self, connection: Connection, tenant: str) -> bool:
        """Insert the end of a log that has none; returns whether it had none."""
        new = {"tenant": tenant, "number": 0, "digest": FIRST, "seal": ""}
        made = connection.execute(self.database.insert(receipt_log_ends).values(new).on_conflict_do_nothing())
        return made.rowcount == 1

    def _insert(self, connection: Connection, entries: Sequence[LogEntry]) -> None:
        columns = ("tenant", "number", "event", "removal", "at", "digest", "version")
        rows = [{**{name: getattr(entry, name) for name in columns}, "entry": entry.text} for entry in entries]
        connection.execute(insert(receipt_log), rows)

    def _seal(self, connection: Connection, entry: LogEntry) -> None:
        at = format_time(self.database.moment(connection))
        fields = {"tenant": entry.tenant, "number": entry.number, "digest": entry.digest, "at": at, "version": VERSION}
        end = {"number": entry.number, "digest": entry.digest, "seal": self.signer.sign(END, fields)}
        connection.execute(update(receipt_log_ends).where(receipt_log_ends.c.tenant == entry.tenant).values(end))


def _entry(row: Any) -> LogEntry:
    return LogEntry(row.tenant, row.number, row.event, row.removal, row.at, row.entry, row.digest, row.version)
