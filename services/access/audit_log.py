"""The audit log: one row for each recorded action, in the records' database.

An action within the database is logged in the same transaction (`AuditLog.record`). Any other action has its row
written before it begins and updated with its outcome, so a crash in between leaves a row with the outcome `running`.
Accepted images are logged afterwards, many requests in one transaction: if that fails the request is refused, and
sending it again changes nothing. The log outlives removals, so it names keys, requests and removals but nothing of an
image. Subjects are stored as keyed digests: with the secret and a name one can find who accessed that subject.
"""

import hmac
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.schemas.list_cursor import CursorNumber, ListCursors
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.services.infrastructure.records.batched_transactions import GroupedWrites
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.tables import audit, audit_subjects

_CURSORS = ListCursors("audit", tuple[CursorNumber])
ENTRIES = LatestFirst(_CURSORS, (audit.c.number,))
ENTRIES_OF_SUBJECT = LatestFirst(_CURSORS, (audit_subjects.c.number,))
_INSERT = insert(audit).returning(audit.c.number)
RUNNING = "running"
COLUMNS = {"at", "tenant", "by", "key", "request", "action", "outcome"}
"""The fields of an entry that have a column; the others are stored as its details."""


class AuditLog:
    """The audit log of all processes.

    Args:
        database: the records' database.
        key: for the digests of subjects, and for nothing else.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key
        self._grouped = GroupedWrites(database)

    def record(
        self, connection: Connection, tenant: str, by: str, action: str, subjects: Collection[str] = (), **fields: Any
    ) -> int:
        """Write a row as part of a transaction; returns its number.

        Args:
            connection: the transaction.
            tenant: the tenant whose memory was accessed.
            by: the name of the key, or of the program.
            action: the name of the action.
            subjects: the subjects that were accessed; their digests are stored.
            **fields: further fields of `AuditEntry`.
        """
        entry = AuditEntry(at=now(), tenant=tenant, by=by, action=action, **fields)
        details = entry.model_dump(mode="json", exclude=COLUMNS, exclude_none=True)
        row = {**entry.model_dump(include=COLUMNS), "details": details}
        number: int = connection.execute(_INSERT, row).scalar_one()
        if subjects:
            digests = sorted({self._digest(tenant, subject) for subject in subjects})
            connection.execute(insert(audit_subjects), [{"number": number, "digest": each} for each in digests])
        return number

    def write(self, tenant: str, by: str, action: str, subjects: Collection[str] = (), **fields: Any) -> int:
        """Write a row, in one transaction with those of other threads; durable when it returns.

        Raises:
            Unavailable: it could not be written.
        """
        return self._grouped(lambda connection: self.record(connection, tenant, by, action, subjects, **fields))

    @contextmanager
    def recorded_action(self, tenant: str, by: str, action: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Log the action of the block before it begins, and update the row with its outcome.

        Yields:
            the fields of the row; what the block adds is written with the outcome.

        Raises:
            Unavailable: the row could not be written, so nothing was done; or its outcome could not be, as the message
                says.
        """
        number = self.write(tenant, by, action, **{**fields, "outcome": RUNNING})
        try:
            yield fields
        except Exception as error:
            self._end(number, {**fields, "outcome": _outcome(error)}, "it failed")
            raise
        self._end(number, {"outcome": "done", **fields}, "it is done")

    @contextmanager
    def recorded_afterwards(self, tenant: str, by: str, action: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Log the action of the block when it has ended; only for actions that may be repeated without effect.

        Raises:
            Unavailable: the action was done, but the row could not be written.
        """
        try:
            yield fields
        except Exception as error:
            self.write(tenant, by, action, **{**fields, "outcome": _outcome(error)})
            raise
        try:
            self.write(tenant, by, action, **fields)
        except Unavailable as error:
            raise type(error)(
                f"it was done, but the audit log could not be written; send it again, which changes nothing more:"
                f" {error.message}"
            ) from error

    def latest(self, tenant: str, asked: PageRequest = FIRST_PAGE, subject: str | None = None) -> Page[AuditEntry]:
        """A page of the entries of a tenant, the latest first.

        Args:
            tenant: the tenant.
            asked: which page.
            subject: only entries that name this subject.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        listed, query = ENTRIES, select(audit).where(audit.c.tenant == tenant)
        if subject is not None:
            named = audit_subjects.c.digest == self._digest(tenant, subject)
            of_subject = select(audit, audit_subjects.c.number).join_from(audit_subjects, audit)
            listed, query = ENTRIES_OF_SUBJECT, of_subject.where(named, audit.c.tenant == tenant)
        with self._database.read() as connection:
            return listed.page(connection, query, asked, _entry)

    def _end(self, number: int, fields: dict[str, Any], what: str) -> None:
        outcome = fields.pop("outcome")
        details = {name: value for name, value in fields.items() if name not in COLUMNS}
        ended = update(audit).where(audit.c.number == number).values(outcome=outcome, details=details)
        try:
            self._grouped(lambda connection: connection.execute(ended))
        except Unavailable as error:
            raise type(error)(f"{what}, but the audit log still shows it as running: {error.message}") from error

    def _digest(self, tenant: str, subject: str) -> str:
        return hmac.digest(self._key, f"{tenant}/{subject}".encode(), sha256).hex()


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**{name: getattr(row, name) for name in COLUMNS}, **row.details)


def _outcome(error: Exception) -> str:
    return error.code if isinstance(error, VisualMemoryError) else VisualMemoryError.code
