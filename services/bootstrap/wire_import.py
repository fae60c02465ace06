"""The records of earlier versions, and how they get into the database at the first start."""

from typing import Any

from sqlalchemy import Connection, select

from schemas.question import StoredDecision
from services.access.secret import load_secret
from services.answers.decisions import insert_decision
from services.forgetting.filter_digest import FilterDigests
from services.forgetting.finish_import import FinishImport
from services.forgetting.receipt_log import ReceiptLog
from services.forgetting.receipt_signature import ReceiptSigner
from services.infrastructure.records.database import Database
from services.infrastructure.records.import_json_records import Imported, import_json_records
from services.infrastructure.records.json_files import JsonFiles
from services.infrastructure.records.tables import decisions
from services.settings import Settings


def import_old_records(settings: Settings, database: Database) -> Imported | None:
    """Import what earlier versions left, where that was not done yet.

    Raises:
        Unavailable: the database or the old records do not answer.
    """
    records, evaluations = (JsonFiles(settings.url_of(kind)) for kind in ("records", "evaluations"))
    return import_json_records(database, records, evaluations, stores_of_import(settings, database))


def stores_of_import(settings: Settings, database: Database) -> "ImportingStores":
    """The stores of what only these know how to write."""
    secret = load_secret(settings)
    log = ReceiptLog(database, ReceiptSigner(secret.key("receipts")))
    return ImportingStores(FinishImport(log, FilterDigests(secret.key("receipts.salt"))))


class ImportingStores:
    """See `services.infrastructure.records.import_json_records.Stores`.

    Args:
        finish_log: finishes the log of receipts.
    """

    def __init__(self, finish_log: FinishImport) -> None:
        self.finish = finish_log

    def read_decision(self, record: Any) -> Any:
        """A decision of an earlier version."""
        return StoredDecision.model_validate(record)

    def write_decision(self, connection: Connection, tenant: str, decision: Any) -> None:
        """Write it, with what it tells of, where it is not there."""
        there = select(decisions.c.id).where(decisions.c.tenant == tenant, decisions.c.id == decision.id)
        if connection.execute(there).first() is None:
            insert_decision(connection, tenant, decision)
