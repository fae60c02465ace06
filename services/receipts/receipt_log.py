"""The log of receipts: for each tenant a chain of signed rows with a sealed end; no change goes unnoticed.

Each row is a text that was signed, and its payload holds the digest of the one before. The sealed end says, signed,
which row is the last, and changes with it in one transaction: who cuts rows off must also know an earlier end that was
valid. That is noticed by a receipt that was given, and by the mirror (`services.receipts.mirror_files`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, union, update

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import RECEIPTS, TYPES, VERSION, Event, Payload
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, receipt_log_ends
from visual_memory.services.receipts import receipt_v1
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
"""What the first entry follows."""
PAGE = 500
TAMPERED = (
    "the sealed end of the log of receipts is not this service's: it was changed, or the secret is another one than"
    " before; nothing is appended. `visual-memory verify-removals` says more"
)


class DuplicateEntry(Exception):
    """The log has this event of this removal already; the transaction is undone, for another has done its work."""


@dataclass(frozen=True)
class LogEntry:
    """A row of the log.

    Attributes:
        text: what was signed, and for the events in `RECEIPTS` the receipt, byte for byte.
        digest: of the text.
    """

    tenant: str
    number: int
    event: str
    removal: str
    at: datetime
    text: str
    digest: str
    version: int = VERSION


class ReceiptLog:
    """Appends to the logs of all tenants, and checks them.

    Args:
        database: where the rows are.
        signer: of this service.
    """

    def __init__(self, database: Database, signer: ReceiptSigner) -> None:
        self.database = database
        self.signer = signer

    def append(self, connection: Connection, tenant: str, removal_id: str, payload: Payload) -> LogEntry:
        """Write down what happened, as the last step of a transaction: until its end, others wait with theirs.

        Raises:
            AlreadyEntered: the log has this event of this removal.
            Unavailable: the log's end was changed by others.
        """
        number, previous = self._lock_end(connection, tenant)
        if self.find(connection, tenant, removal_id, payload.event):
            raise DuplicateEntry(f"{payload.event} of {removal_id}")
        at = self.database.moment(connection)
        said = {
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
        text = self.signer.sign(RECEIPT if payload.event in RECEIPTS else ENTRY, said)
        entry = LogEntry(tenant, number + 1, payload.event, removal_id, at, text, digest(text))
        self._insert(connection, [entry])
        self._seal(connection, entry)
        return entry

    def find(self, connection: Connection, tenant: str, removal_id: str, event: Event) -> LogEntry | None:
        """The entry of an event, the latest where versions before 2 wrote several."""
        about = (receipt_log.c.tenant == tenant) & (receipt_log.c.removal == removal_id)
        found = select(receipt_log).where(about & (receipt_log.c.event == event)).order_by(receipt_log.c.number.desc())
        row = connection.execute(found.limit(1)).one_or_none()
        return None if row is None else _entry(row)

    def find_one(self, tenant: str, removal_id: str, event: Event) -> LogEntry | None:
        """The same, in a transaction of its own."""
        with self.database.read() as connection:
            return self.find(connection, tenant, removal_id, event)

    def entries(self, tenant: str, after: int = 0) -> Iterator[LogEntry]:
        """A tenant's entries in the order of their numbers, those after a number."""
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
        one = (receipt_log.c.tenant == tenant) & (receipt_log.c.number == number)
        with self.database.read() as connection:
            row = connection.execute(select(receipt_log).where(one)).one_or_none()
        return None if row is None else _entry(row)

    def end(self, tenant: str) -> int:
        """The number of the last entry, as the end says it; 0 where there is none."""
        with self.database.read() as connection:
            end = select(receipt_log_ends.c.number).where(receipt_log_ends.c.tenant == tenant)
            return connection.execute(end).scalar_one_or_none() or 0

    def tenants(self) -> list[str]:
        """Everybody who has a log."""
        with self.database.read() as connection:
            return sorted(
                connection.execute(union(select(receipt_log.c.tenant), select(receipt_log_ends.c.tenant))).scalars()
            )

    def faults(self, tenant: str) -> Iterator[str]:
        """What is wrong with a tenant's log, a sentence each; others may append meanwhile."""
        about = receipt_log.c.tenant == tenant
        with self.database.read() as connection:  # one statement, so that end and rows are of one moment
            last = select(func.max(receipt_log.c.number)).where(about).scalar_subquery()
            rows = select(func.count()).select_from(receipt_log).where(about).scalar_subquery()
            columns = (receipt_log_ends.c.number, receipt_log_ends.c.digest, receipt_log_ends.c.seal, last, rows)
            found = connection.execute(select(*columns).where(receipt_log_ends.c.tenant == tenant)).one_or_none()
            if found is None:
                if connection.execute(select(rows)).scalar_one():
                    yield "the log has no sealed end: it was taken out"
                return
        end, end_digest, seal, last_number, _ = found
        yield from self._faults_of_end(tenant, end, end_digest, seal)
        if (last_number or 0) > end:
            yield f"the log has entries after its sealed end, which is {end}"
        number, previous = 0, FIRST
        for entry in self.entries(tenant):
            if entry.number > end:
                break
            yield from (f"entry {missing} of the log is missing" for missing in range(number + 1, entry.number))
            yield from self._faults_of(entry, previous)
            number, previous = entry.number, entry.digest
        if number < end:
            yield f"the log breaks off after entry {number}, and its sealed end is {end}: entries were cut off"
        elif previous != end_digest:
            yield f"the sealed end of the log is of another entry {end}"

    def fault_of(self, entry: LogEntry, previous: str | None = None) -> str:
        """What is wrong with one entry by itself, and with what it follows where that is known; empty: nothing."""
        return next(self._faults_of(entry, previous), "")

    def adopt(self, connection: Connection, entries: Sequence[LogEntry]) -> None:
        """Take over entries that follow the log's end, as a mirror has them; they are checked first.

        Raises:
            NotValid: one is not of this service, or does not follow.
        """
        for entry in entries:
            number, previous = self._lock_end(connection, entry.tenant)
            fault = self.fault_of(entry, previous)
            if entry.number != number + 1 or fault:
                raise NotValid(fault or f"entry {entry.number} of the log does not follow entry {number}")
            self._insert(connection, [entry])
            self._seal(connection, entry)

    def seal_imported(self, connection: Connection, tenant: str) -> None:
        """Seal the end of a log that was imported from a version without ends; one that is there stays."""
        rows = select(receipt_log).where(receipt_log.c.tenant == tenant).order_by(receipt_log.c.number.desc())
        row = connection.execute(rows.limit(1)).one_or_none()
        if row is not None and self._make_end(connection, tenant):
            self._seal(connection, _entry(row))

    def _faults_of(self, entry: LogEntry, previous: str | None) -> Iterator[str]:
        where = f"entry {entry.number} of the log"
        if digest(entry.text) != entry.digest:
            yield f"{where} was changed: its digest is another"
        try:
            said = self._said(entry)
        except NotValid as error:
            yield f"{where}: {error}"
            return
        named = {"tenant": entry.tenant, "number": entry.number, "removal": entry.removal, "event": entry.event}
        if {name: said.get(name) for name in named} != named or datetime.fromisoformat(said["at"]) != entry.at:
            yield f"{where} is another's: {said.get('number')} of {said.get('tenant')}"
        if previous is not None and said.get("previous") != previous:
            yield f"{where} does not follow the one before: one of them was changed or taken out"

    def _said(self, entry: LogEntry) -> Mapping[str, Any]:
        if entry.version < VERSION:
            return self._said_before(entry.text)
        signed = self.signer.read(entry.text)
        if signed.type != (RECEIPT if entry.event in RECEIPTS else ENTRY):
            raise NotValid("it is no entry of a log")
        return signed.payload

    def _said_before(self, text: str) -> Mapping[str, Any]:
        """What an entry of version 1 says."""
        try:
            said = receipt_v1.parse_receipt(text.encode())
        except ValueError:
            raise NotValid("it is damaged") from None
        for fault in receipt_v1.check_entry(said, self.signer.key.base64):
            raise NotValid(fault)
        return said

    def _faults_of_end(self, tenant: str, number: int, end_digest: str, seal: str) -> Iterator[str]:
        try:
            signed = self.signer.read(seal)
        except NotValid as error:
            yield f"the sealed end of the log: {error}"
            return
        if signed.type != END or not _says(signed.payload, tenant, number, end_digest):
            yield "the sealed end of the log was changed"

    def _lock_end(self, connection: Connection, tenant: str) -> tuple[int, str]:
        """Number and digest of the last entry; no other appends until the transaction ends."""
        self._make_end(connection, tenant)
        ends = select(receipt_log_ends).where(receipt_log_ends.c.tenant == tenant)
        end = connection.execute(ends.with_for_update()).one()
        if end.number == 0 and not end.seal:
            if connection.execute(select(receipt_log.c.number).where(receipt_log.c.tenant == tenant)).first():
                raise Unavailable(TAMPERED)
        elif any(self._faults_of_end(tenant, end.number, end.digest, end.seal)):
            raise Unavailable(TAMPERED)
        return end.number, end.digest

    def _make_end(self, connection: Connection, tenant: str) -> bool:
        """Make the end of a log that has none yet; whether it had none."""
        new = {"tenant": tenant, "number": 0, "digest": FIRST, "seal": ""}
        made = connection.execute(self.database.insert(receipt_log_ends).values(new).on_conflict_do_nothing())
        return made.rowcount == 1

    def _insert(self, connection: Connection, entries: Sequence[LogEntry]) -> None:
        columns = ("tenant", "number", "event", "removal", "at", "digest", "version")
        rows = [{**{name: getattr(entry, name) for name in columns}, "entry": entry.text} for entry in entries]
        connection.execute(insert(receipt_log), rows)

    def _seal(self, connection: Connection, entry: LogEntry) -> None:
        at = format_time(self.database.moment(connection))
        said = {"tenant": entry.tenant, "number": entry.number, "digest": entry.digest, "at": at, "version": VERSION}
        end = {"number": entry.number, "digest": entry.digest, "seal": self.signer.sign(END, said)}
        connection.execute(update(receipt_log_ends).where(receipt_log_ends.c.tenant == entry.tenant).values(end))


def _says(payload: Mapping[str, Any], tenant: str, number: int, end_digest: str) -> bool:
    return (payload.get("tenant"), payload.get("number"), payload.get("digest")) == (tenant, number, end_digest)


def _entry(row: Any) -> LogEntry:
    return LogEntry(row.tenant, row.number, row.event, row.removal, row.at, row.entry, row.digest, row.version)
