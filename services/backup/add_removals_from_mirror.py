"""Write the records of removals that happened after a backup, from the log entries that only the mirror has."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from visual_memory.schemas.receipt import VERSION, Event
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images, receipt_log, removals
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.receipt_signature import ReceiptChecker, parse_time
from visual_memory.services.removal.removal_records import RemovalStep

UNKNOWN = "not known: an earlier version did it, after this backup, and wrote only digests of it into the log"


class AddRemovalsFromMirror:
    """Writes removal records during a restore.

    Args:
        database: the records' database.
        signer: reads signed entries.
    """

    def __init__(self, database: Database, signer: ReceiptChecker) -> None:
        self._database = database
        self._signer = signer

    def __call__(self, entries: Sequence[LogEntry]) -> None:
        """Record each removal whose entry says that it is done, with its receipts."""
        for entry in entries:
            with self._database.write(urgent=True) as connection:
                if entry.event == Event.DONE:
                    self._add_done(connection, entry)
                elif entry.event == Event.ERASED:
                    self._set_erased(connection, entry)

    def _add_done(self, connection: Connection, entry: LogEntry) -> None:
        is_old = entry.version < VERSION
        request, result = self._values_of_version_1(connection, entry) if is_old else self._values(entry)
        row = {"id": entry.removal, "tenant": entry.tenant} | request | result
        insert = self._database.insert(removals).values(row)
        connection.execute(insert.on_conflict_do_update(index_elements=[removals.c.id], set_=result))
        connection.execute(delete(covered_images).where(covered_images.c.removal == entry.removal))

    def _values(self, entry: LogEntry) -> tuple[dict[str, Any], dict[str, Any]]:
        """The columns of the request, and those of the result."""
        payload = self._signer.read(entry.text).payload
        request = {
            "everything": payload["everything"],
            "block": payload["block"],
            "reason": payload["reason"],
            "requested_by": payload["requested_by"]["name"],
            "requested_key": payload["requested_by"]["key"],
            "requested_at": parse_time(payload["requested_at"]),
        }
        result = {
            "step": RemovalStep.DONE,
            "filter": None,
            "images": payload["images"],
            "by_state": payload["by_state"],
            "pictures": payload["pictures"],
            "queued": payload.get("queued", 0),
            "verified_at": parse_time(payload["done_at"]),
            "receipt": entry.text,
        }
        return request, result

    def _values_of_version_1(self, connection: Connection, entry: LogEntry) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same columns for an entry of version 1, which contains digests only."""
        request_entry = (receipt_log.c.removal == entry.removal) & (receipt_log.c.event == Event.REQUESTED)
        at = select(receipt_log.c.at).where(receipt_log.c.tenant == entry.tenant, request_entry)
        request = {
            "everything": False,
            "block": False,
            "reason": UNKNOWN,
            "requested_by": UNKNOWN,
            "requested_at": connection.execute(at).scalar_one_or_none() or entry.at,
        }
        return request, {"step": RemovalStep.DONE, "filter": None, "verified_at": entry.at}

    def _set_erased(self, connection: Connection, entry: LogEntry) -> None:
        if entry.version < VERSION:
            erased = {"erased_at": entry.at, "erased": False, "erasure_note": UNKNOWN}
        else:
            payload = self._signer.read(entry.text).payload
            note = "" if payload["erased"] else payload["claim"]["engine"]
            erased = {"erased_at": parse_time(payload["erased_at"]), "erased": payload["erased"], "erasure_note": note}
        erased["erasure_receipt"] = entry.text
        connection.execute(update(removals).where(removals.c.id == entry.removal).values(erased))
