"""The audit log: a row for each deed, beside the other records.

What is done in the database is logged in the same transaction (`AuditLog.record`). Whatever else is done has its row
before it begins, which then says how it ended; so a crash in between leaves a row that says `running`. Only what is
accepted is logged afterwards, in one transaction for many requests: where that fails the request is refused, and to
send it again changes nothing. The log names keys, requests and removals, and nothing of an image, because it outlives
removals: subjects stand in it as keyed digests, so that whoever has the secret and a name finds who looked at it.
"""

import hmac
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select, update

from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.schemas.image import now
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.grouped_writes import GroupedWrites
from visual_memory.services.infrastructure.records.tables import audit, audit_subjects

_INSERT = insert(audit).returning(audit.c.number)
RUNNING = "running"
COLUMNS = {"at", "tenant", "by", "key", "request", "action", "outcome"}
"""The fields of a line that have a column; the others are its details."""


class AuditLog:
    """The rows of all processes, in the database that they share.

    Args:
        database: keeps them.
        key: of the digests of subjects; nobody else has it.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key
        self._grouped = GroupedWrites(database)

    def record(
        self, connection: Connection, tenant: str, by: str, action: str, subjects: Collection[str] = (), **said: Any
    ) -> int:
        """Write a row as part of a transaction; its number.

        Args:
            connection: of the transaction.
            tenant: in whose memory it was done.
            by: the name of the key, or who else did it.
            action: what was done.
            subjects: who was looked at, in words; their digests are kept.
            **said: further fields of `AuditEntry`.
        """
        line = AuditEntry(at=now(), tenant=tenant, by=by, action=action, **said)
        details = line.model_dump(mode="json", exclude=COLUMNS, exclude_none=True)
        row = {**line.model_dump(include=COLUMNS), "details": details}
        number: int = connection.execute(_INSERT, row).scalar_one()
        if subjects:
            digests = sorted({self._digest(tenant, subject) for subject in subjects})
            connection.execute(insert(audit_subjects), [{"number": number, "digest": each} for each in digests])
        return number

    def write(self, tenant: str, by: str, action: str, subjects: Collection[str] = (), **said: Any) -> int:
        """Write a row, together with those of others; durable when it returns.

        Raises:
            Unavailable: it could not be written.
        """
        return self._grouped(lambda connection: self.record(connection, tenant, by, action, subjects, **said))

    @contextmanager
    def deed(self, tenant: str, by: str, action: str, **said: Any) -> Iterator[dict[str, Any]]:
        """Log what the block does: before it begins, and then how it ended, with what it added to the dictionary.

        Raises:
            Unavailable: the row could not be written, so nothing was done; or not its end, as the message says.
        """
        number = self.write(tenant, by, action, **{**said, "outcome": RUNNING})
        try:
            yield said
        except Exception as error:
            self._end(number, {**said, "outcome": _outcome(error)}, "it failed")
            raise
        self._end(number, {"outcome": "done", **said}, "it is done")

    @contextmanager
    def afterwards(self, tenant: str, by: str, action: str, **said: Any) -> Iterator[dict[str, Any]]:
        """Log what the block has done, where doing it again changes nothing.

        Raises:
            Unavailable: it is done, but the row could not be written.
        """
        try:
            yield said
        except Exception as error:
            self.write(tenant, by, action, **{**said, "outcome": _outcome(error)})
            raise
        try:
            self.write(tenant, by, action, **said)
        except Unavailable as error:
            raise type(error)(
                f"it was done, but the audit log could not be written; send it again, which changes nothing more:"
                f" {error.message}"
            ) from error

    def latest(self, tenant: str, limit: int, subject: str | None = None) -> list[AuditEntry]:
        """The last lines of a tenant, the latest first.

        Args:
            tenant: whose.
            limit: at most so many.
            subject: only those that looked at this one.
        """
        asked = select(audit).where(audit.c.tenant == tenant).order_by(audit.c.number.desc()).limit(limit)
        if subject is not None:
            named = select(audit_subjects.c.number).where(audit_subjects.c.digest == self._digest(tenant, subject))
            asked = asked.where(audit.c.number.in_(named))
        with self._database.read() as connection:
            rows = connection.execute(asked).mappings().all()
        return [AuditEntry(**{name: row[name] for name in COLUMNS}, **row["details"]) for row in rows]

    def _end(self, number: int, said: dict[str, Any], what: str) -> None:
        outcome, details = said.pop("outcome"), {name: value for name, value in said.items() if name not in COLUMNS}
        ended = update(audit).where(audit.c.number == number).values(outcome=outcome, details=details)
        try:
            self._grouped(lambda connection: connection.execute(ended))
        except Unavailable as error:
            raise type(error)(f"{what}, and in the audit log it still runs: {error.message}") from error

    def _digest(self, tenant: str, subject: str) -> str:
        return hmac.digest(self._key, f"{tenant}/{subject}".encode(), sha256).hex()


def _outcome(error: Exception) -> str:
    return error.code if isinstance(error, VisualMemoryError) else VisualMemoryError.code
