"""Verify all removals: log against mirror and records, stored images and pictures against removals."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Protocol

from visual_memory.schemas.image import StoredImage
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.receipts.check_receipt_against_log import ReceiptCheck
from visual_memory.services.receipts.mirror.sync_mirror import MirrorSync
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid
from visual_memory.services.removal.compare_records_with_log import RemovalRecordCheck
from visual_memory.services.removal.covered_image_records import CoveredImages, RemovalHook
from visual_memory.services.removal.erasure.erasure_records import ErasureRecords
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.tombstones import Tombstones

PAGE = 500


@dataclass
class Findings:
    """What a verification examined, and what it found.

    Attributes:
        faults: what is wrong, one sentence each.
        returned: stored images that a removal covered.
        pictures: keys of pictures that a removal covered, where the picture, its thumbnail or its pixels are stored.
        described: by tenant, keys of pictures of covered images that records of changes still describe.
    """

    removals: int = 0
    running: int = 0
    unerased: int = 0
    images: int = 0
    faults: list[str] = field(default_factory=list)
    returned: list[StoredImage] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    described: dict[str, set[str]] = field(default_factory=dict)


class RecordedChanges(Protocol):
    """The records of changes, which describe images as they were before."""

    def pictures(self, tenant: str) -> Iterator[list[str]]:
        """The pictures that they refer to, in pages."""

    def delete_pictures(self, tenant: str, pictures: Collection[str]) -> None:
        """Delete what they say of images with some pictures."""


@dataclass(frozen=True)
class VerifyRemovals:
    """Verifies the removals of all tenants.

    Attributes:
        hooks: delete what was derived from images that are removed again.
    """

    memory: Memory
    pictures: PictureStore
    removals: RemovalRecords
    tombstones: Tombstones
    erasures: ErasureRecords
    check_records: RemovalRecordCheck
    receipt_log: ReceiptLog
    mirroring: MirrorSync
    check_receipt: ReceiptCheck
    changes: RecordedChanges
    hooks: Sequence[RemovalHook] = ()

    def __call__(self, receipts: Iterable[str] = ()) -> Findings:
        """Verify every tenant's removals; changes nothing.

        Args:
            receipts: issued receipts. Each must still be in the log: that detects a log whose end was cut off.
        """
        findings = Findings(unerased=self.erasures.waiting())
        known = {*self.removals.tenants(), *self.receipt_log.tenants(), *self.mirroring.tenants()}
        for tenant in sorted(known):
            findings.faults += self.receipt_log.faults(tenant)
            findings.faults += self.mirroring.faults(tenant)
            self._verify_records(tenant, findings)
            self._verify_images(tenant, findings)
            self._verify_pictures(tenant, findings)
            self._verify_changes(tenant, findings)
        for number, text in enumerate(receipts, start=1):
            findings.faults += [f"receipt {number}: {fault}" for fault in self.check_receipt(text)]
        return findings

    def remove_again(self, findings: Findings) -> None:
        """Remove what came back, for example with a restored snapshot of the collection."""
        for image in findings.returned:
            self.memory.writes.delete([image])
        for tenant, images in groupby(findings.returned, key=lambda image: image.tenant):
            covered = CoveredImages.of(images)
            for hook in self.hooks:
                hook(tenant, covered)
        for tenant, pictures in findings.described.items():
            self.changes.delete_pictures(tenant, pictures)
        self.pictures.delete([*findings.pictures, *(image.picture for image in findings.returned)])

    def _verify_records(self, tenant: str, findings: Findings) -> None:
        removals, running = self.check_records.counts(tenant)
        findings.removals += removals
        findings.running += running
        findings.faults += self.check_records(tenant)
        findings.faults += self.check_records.contradictions(tenant, self._payload)
        for text in self.check_records.receipts_of_version_1(tenant):
            findings.faults += [fault for fault in self.check_receipt(text) if fault not in findings.faults]

    def _payload(self, receipt: str) -> Mapping[str, Any]:
        """The payload of a receipt; empty if it is not valid, which is a fault of the log."""
        try:
            return self.receipt_log.signer.read(receipt).payload
        except NotValid:
            return {}

    def _verify_images(self, tenant: str, findings: Findings) -> None:
        for page in self.memory.images.pages(tenant, [], PAGE):
            findings.images += len(page)
            removed = self.tombstones.removed_among(tenant, [image.picture for image in page])
            for image in page:
                if image.picture in removed:
                    findings.faults.append(f"image {image.image_id} of {tenant} is back, but a removal covered it")
                    findings.returned.append(image)

    def _verify_pictures(self, tenant: str, findings: Findings) -> None:
        for folder in self.pictures.folders_of(tenant):
            files = iter(self.pictures.files(folder))
            while some := [*islice(files, PAGE)]:
                removed = self.tombstones.removed_among(tenant, [file.key for file in some if file.key is not None])
                for file in sorted((file for file in some if file.key in removed), key=lambda file: file.path):
                    findings.faults.append(f"the file {file.path} ({file.kind}) is there, but a removal covered it")
                    findings.pictures.append(str(file.key))

    def _verify_changes(self, tenant: str, findings: Findings) -> None:
        for page in self.changes.pictures(tenant):
            removed = self.tombstones.removed_among(tenant, page)
            findings.described.setdefault(tenant, set()).update(removed)
        if number := len(findings.described.get(tenant, ())):
            findings.faults.append(f"{number} images of {tenant} that a removal covered are described by changes still")
