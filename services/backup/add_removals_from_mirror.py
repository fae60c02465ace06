"""The records of removals that a backup does not know, or not as done, from the entries of the log."""

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
    """Writes them down, when a restore has taken entries over from the mirror.

    Args:
        database: of the records.
        signer: reads what was signed.
    """

    def __init__(self, database: Database, signer: ReceiptChecker) -> None:
        self._database = database
        self._signer = signer

    def __call__(self, entries: Sequence[LogEntry]) -> None:
        """Let each removal that entries say is done be done, with its receipts."""
        for entry in entries:
            with self._database.write(urgent=True) as connection:
                if entry.event == Event.DONE:
                    self._be_done(connection, entry)
                elif entry.event == Event.ERASED:
                    self._be_erased(connection, entry)

    def _be_done(self, connection: Connection, entry: LogEntry) -> None:
        row, known = self._of_earlier(connection, entry) if entry.version < VERSION else self._said(entry)
        insert = self._database.insert(removals).values({"id": entry.removal, "tenant": entry.tenant} | row | known)
        connection.execute(insert.on_conflict_do_update(index_elements=[removals.c.id], set_=known))
        connection.execute(delete(covered_images).where(covered_images.c.removal == entry.removal))

    def _said(self, entry: LogEntry) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was asked for, and what came of it."""
        said = self._signer.read(entry.text).payload
        row = {
            "everything": said["everything"],
            "block": said["block"],
            "reason": said["reason"],
            "requested_by": said["requested_by"]["name"],
            "requested_key": said["requested_by"]["key"],
            "requested_at": parse_time(said["requested_at"]),
        }
        known = {
            "step": RemovalStep.DONE,
            "filter": None,
            "images": said["images"],
            "by_state": said["by_state"],
            "pictures": said["pictures"],
            "queued": said.get("queued", 0),
            "verified_at": parse_time(said["done_at"]),
            "receipt": entry.text,
        }
        return row, known

    def _of_earlier(self, connection: Connection, entry: LogEntry) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same of version 1, whose entries hold digests alone."""
        asked = (receipt_log.c.removal == entry.removal) & (receipt_log.c.event == Event.REQUESTED)
        at = select(receipt_log.c.at).where(receipt_log.c.tenant == entry.tenant, asked)
        row = {
            "everything": False,
            "block": False,
            "reason": UNKNOWN,
            "requested_by": UNKNOWN,
            "requested_at": connection.execute(at).scalar_one_or_none() or entry.at,
        }
        return row, {"step": RemovalStep.DONE, "filter": None, "verified_at": entry.at}

    def _be_erased(self, connection: Connection, entry: LogEntry) -> None:
        if entry.version < VERSION:
            erased = {"erased_at": entry.at, "erased": False, "erasure_note": UNKNOWN}
        else:
            said = self._signer.read(entry.text).payload
            note = "" if said["erased"] else said["claim"]["engine"]
            erased = {"erased_at": parse_time(said["erased_at"]), "erased": said["erased"], "erasure_note": note}
        erased["erasure_receipt"] = entry.text
        connection.execute(update(removals).where(removals.c.id == entry.removal).values(erased))
