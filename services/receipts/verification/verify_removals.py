"""Verify: hold the log of receipts against its mirror, and receipts, images and pictures against the removals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from visual_memory.schemas.image import StoredImage
from visual_memory.services.infrastructure.storage.picture_store import Kind, Pictures
from visual_memory.services.memory.memory import Memory
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid
from visual_memory.services.receipts.sync_mirror import MirrorSync
from visual_memory.services.receipts.verification.check_receipt_against_log import ReceiptCheck
from visual_memory.services.receipts.verification.compare_removal_records_with_log import RemovalRecordCheck
from visual_memory.services.removal.covered_images import CoveredImageRecords, CoveredImages, RemovalHook
from visual_memory.services.removal.erasure.erasure_records import ErasureRecords
from visual_memory.services.removal.removal_records import RemovalRecords

PAGE = 500


@dataclass
class Findings:
    """What a verification looked at, and what it found.

    Attributes:
        faults: what is wrong, a sentence each; empty where every promise was kept.
        returned: images that a removal covered and that are there all the same.
        pictures: keys of pictures that a removal covered and that are there all the same.
    """

    removals: int = 0
    running: int = 0
    unerased: int = 0
    images: int = 0
    faults: list[str] = field(default_factory=list)
    returned: list[StoredImage] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VerifyRemovals:
    """The use case, with the parts that it needs.

    Attributes:
        undo: as in `services.removal.removal_steps.Forget`, for what is removed again.
    """

    memory: Memory
    pictures: Pictures
    removals: RemovalRecords
    notes: CoveredImageRecords
    erasures: ErasureRecords
    record_faults: RemovalRecordCheck
    receipt_log: ReceiptLog
    mirroring: MirrorSync
    check_receipt: ReceiptCheck
    undo: Sequence[RemovalHook] = ()

    def __call__(self, receipts: Iterable[str] = ()) -> Findings:
        """Check every tenant's removals; changes nothing.

        Args:
            receipts: as they were handed out: each must be in the log still, so that none can be taken off its end.
        """
        findings = Findings(unerased=self.erasures.waiting())
        known = {*self.removals.tenants(), *self.receipt_log.tenants(), *self.mirroring.tenants()}
        for tenant in sorted(known):
            findings.faults += self.receipt_log.faults(tenant)
            findings.faults += self.mirroring.faults(tenant)
            self._check_records(tenant, findings)
            self._check_images(tenant, findings)
            self._check_pictures(tenant, findings)
        for number, text in enumerate(receipts, start=1):
            findings.faults += [f"receipt {number}: {fault}" for fault in self.check_receipt(text)]
        return findings

    def remove_again(self, findings: Findings) -> None:
        """Remove what came back, as a restored snapshot of the collection brings it."""
        for image in findings.returned:
            self.memory.writes.delete([image])
        for tenant, images in groupby(findings.returned, key=lambda image: image.tenant):
            covered = CoveredImages.of(images)
            for undo in self.undo:
                undo(tenant, covered)
        self.pictures.delete([*findings.pictures, *(image.picture for image in findings.returned)])

    def _check_records(self, tenant: str, findings: Findings) -> None:
        removals, running = self.record_faults.counts(tenant)
        findings.removals += removals
        findings.running += running
        findings.faults += self.record_faults(tenant)
        findings.faults += self.record_faults.says_otherwise(tenant, self._said)
        for text in self.record_faults.receipts_of_version_1(tenant):
            findings.faults += [fault for fault in self.check_receipt(text) if fault not in findings.faults]

    def _said(self, receipt: str) -> Mapping[str, Any]:
        """What a receipt says; nothing where it is not valid, which is a fault of the log."""
        try:
            return self.receipt_log.signer.read(receipt).payload
        except NotValid:
            return {}

    def _check_images(self, tenant: str, findings: Findings) -> None:
        for page in self.memory.images.pages(tenant, [], PAGE):
            findings.images += len(page)
            covered = self.notes.covered_among(tenant, [image.picture for image in page])
            for image in page:
                if image.picture in covered:
                    findings.faults.append(f"image {image.image_id} of {tenant} is back, but a removal covered it")
                    findings.returned.append(image)

    def _check_pictures(self, tenant: str, findings: Findings) -> None:
        for folder in self.pictures.folders_of(tenant):
            files = iter(self.pictures.files(folder))
            while some := [*islice(files, PAGE)]:
                keys = [file.path for file in some if file.kind is Kind.PICTURE]
                for key in sorted(self.notes.covered_among(tenant, keys)):
                    findings.faults.append(f"picture {key} is there, but a removal covered it")
                    findings.pictures.append(key)
