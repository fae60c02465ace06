"""Wire the import of the records of earlier versions, which runs at the first start."""

from typing import Any

from sqlalchemy import Connection, select

from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.decisions.stored_decisions import insert_decision
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.json_import.import_json_records import Imported, import_json_records
from visual_memory.services.infrastructure.records.json_import.json_files import JsonFiles
from visual_memory.services.infrastructure.records.tables import decisions
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.receipts.seal_imported_logs import SealImportedLogs
from visual_memory.services.settings import Settings


def import_old_records(settings: Settings, database: Database) -> Imported | None:
    """Import the records of earlier versions, unless that was done already.

    Raises:
        Unavailable: the database or the old records do not answer.
    """
    records, evaluations = (JsonFiles(settings.url_of(kind)) for kind in ("records", "evaluations"))
    return import_json_records(database, records, evaluations, stores_of_import(settings, database))


def stores_of_import(settings: Settings, database: Database) -> "ImportingStores":
    """The stores that write some of the imported records."""
    secret = load_secret(settings)
    log = ReceiptLog(database, ReceiptSigner(secret.key("receipts")))
    return ImportingStores(SealImportedLogs(log, FilterDigests(secret.key("receipts.salt"))))


class ImportingStores:
    """Implements `services.infrastructure.records.json_import.import_json_records.Stores`.

    Args:
        finish_log: finishes the imported receipt log.
    """

    def __init__(self, finish_log: SealImportedLogs) -> None:
        self.finish = finish_log

    def read_decision(self, record: Any) -> Any:
        """Read a decision of an earlier version."""
        return StoredDecision.model_validate(record)

    def write_decision(self, connection: Connection, tenant: str, decision: Any) -> None:
        """Write a decision with its mentions, unless it exists."""
        there = select(decisions.c.id).where(decisions.c.tenant == tenant, decisions.c.id == decision.id)
        if connection.execute(there).first() is None:
            insert_decision(connection, tenant, decision)
