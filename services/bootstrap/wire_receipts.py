"""Receipts: their log, their filters' digests, and the mirror."""

from dataclasses import dataclass

from services.access.secret import Secret
from services.forgetting.filter_digest import FilterDigests
from services.forgetting.mirror import Mirror
from services.forgetting.mirror_rows import MirrorRows
from services.forgetting.mirroring import Mirroring
from services.forgetting.receipt_check import ReceiptCheck
from services.forgetting.receipt_log import ReceiptLog
from services.forgetting.receipt_signature import ReceiptSigner
from services.infrastructure.records.database import Database
from services.settings import Settings


@dataclass(frozen=True)
class Receipts:
    """What gives receipts, and checks them."""

    log: ReceiptLog
    filters: FilterDigests
    rows: MirrorRows
    mirroring: Mirroring

    def check(self) -> ReceiptCheck:
        """What checks some receipts."""
        return ReceiptCheck(self.log, self.filters)


def receipts_of(settings: Settings, database: Database, secret: Secret) -> Receipts:
    """The receipts of a service."""
    signer, filters = signer_of(secret), FilterDigests(secret.key("receipts.salt"))
    log, mirror = ReceiptLog(database, signer), settings.removals.mirror
    rows = MirrorRows(database)
    return Receipts(log, filters, rows, Mirroring(log, rows, Mirror(mirror, signer) if mirror else None))


def signer_of(secret: Secret) -> ReceiptSigner:
    """What signs receipts; its public key is the one of every version."""
    return ReceiptSigner(secret.key("receipts"))
