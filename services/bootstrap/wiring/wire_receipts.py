"""Wire receipts: their log, the digests of their filters, and the mirror."""

from dataclasses import dataclass

from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.receipts.check_receipt_against_log import ReceiptCheck
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.mirror.issued_receipts import IssuedReceipts
from visual_memory.services.receipts.mirror.mirror_files import MirrorFiles
from visual_memory.services.receipts.mirror.mirrored_digests import MirroredDigests
from visual_memory.services.receipts.mirror.sync_mirror import MirrorSync
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.settings import Settings


@dataclass(frozen=True)
class Receipts:
    """The components that issue and check receipts."""

    log: ReceiptLog
    filters: FilterDigests
    issued: IssuedReceipts
    mirroring: MirrorSync

    def check(self) -> ReceiptCheck:
        """A check of receipts."""
        return ReceiptCheck(self.log, self.filters)


def receipts_of(settings: Settings, database: Database, secret: Secret) -> Receipts:
    """Wire the receipts of a service."""
    signer, filters = signer_of(secret), FilterDigests(secret.key("receipts.salt"))
    log, mirror = ReceiptLog(database, signer), settings.removals.mirror
    issued, files = IssuedReceipts(database), MirrorFiles(mirror, signer) if mirror else None
    return Receipts(log, filters, issued, MirrorSync(log, MirroredDigests(database), issued, files))


def signer_of(secret: Secret) -> ReceiptSigner:
    """The signer of receipts; its public key is the same in every version."""
    return ReceiptSigner(secret.key("receipts"))
