"""The records of removals that a backup does not know, or not as done, from the entries of the log."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, update

from schemas.receipt import Event
from services.forgetting.receipt_log import Entry
from services.forgetting.receipt_signature import ReceiptChecker, moment_of
from services.forgetting.removals import Step
from services.infrastructure.records.database import Database
from services.infrastructure.records.tables import covered_images, removals


class AdoptedRemovals:
    """Writes them down, when a restore has taken entries over from the mirror.

    Args:
        database: of the records.
        signer: reads what was signed.
    """

    def __init__(self, database: Database, signer: ReceiptChecker) -> None:
        self._database = database
        self._signer = signer

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Let each removal that entries say is done be done, with its receipts."""
        for entry in entries:
            with self._database.write(urgent=True) as connection:
                if entry.event == Event.DONE:
                    self._be_done(connection, entry)
                elif entry.event == Event.ERASED:
                    self._be_erased(connection, entry)

    def _be_done(self, connection: Connection, entry: Entry) -> None:
        said = self._signer.read(entry.text).payload
        row = {
            "id": entry.removal,
            "tenant": entry.tenant,
            "everything": said["everything"],
            "block": said["block"],
            "reason": said["reason"],
            "requested_by": said["requested_by"]["name"],
            "requested_key": said["requested_by"]["key"],
            "requested_at": moment_of(said["requested_at"]),
        }
        known: dict[str, Any] = {
            "step": Step.DONE,
            "filter": None,
            "images": said["images"],
            "by_state": said["by_state"],
            "pictures": said["pictures"],
            "queued": said.get("queued", 0),
            "verified_at": moment_of(said["done_at"]),
            "receipt": entry.text,
        }
        insert = self._database.insert(removals).values(row | known | {"round": 0})
        connection.execute(insert.on_conflict_do_update(index_elements=[removals.c.id], set_=known))
        connection.execute(delete(covered_images).where(covered_images.c.removal == entry.removal))

    def _be_erased(self, connection: Connection, entry: Entry) -> None:
        said = self._signer.read(entry.text).payload
        erased = {"erased_at": moment_of(said["erased_at"]), "erased": said["erased"], "erasure_receipt": entry.text}
        connection.execute(update(removals).where(removals.c.id == entry.removal).values(erased))
