"""Verify: hold every receipt against the removal log, and everything that the memory holds against the removals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from schemas.image import StoredImage
from schemas.removal import Event, Removal, RemovalStatus, Seal
from services.forgetting.covered_images import CoveredImages, RemovalHook
from services.forgetting.removal_log import RemovalLog, digest_of
from services.forgetting.removals import Removals, burial
from services.memory.memory import Memory
from services.memory.pictures import Pictures

PAGE = 1000


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
class Verify:
    """The use case, with the parts that it needs.

    Attributes:
        undo: as in `services.forgetting.forget.Forget`, for what is removed again.
    """

    memory: Memory
    pictures: Pictures
    removals: Removals
    removal_log: RemovalLog
    undo: Sequence[RemovalHook] = ()

    def __call__(self, receipts: Iterable[Removal] = ()) -> Findings:
        """Check every tenant's removals; changes nothing.

        Args:
            receipts: as they were handed out: each must be in the log still, so that none can be taken off its end.
        """
        findings = Findings(unerased=len(self.removals.unerased()))
        handed_out = list(receipts)
        for tenant in sorted({*self.removals.tenants(), *(each.seal.tenant for each in handed_out if each.seal)}):
            entries = list(self.removal_log.entries(tenant))
            findings.faults += self.removal_log.faults(tenant)
            self._check_records(tenant, entries, findings)
            findings.faults += _unknown(handed_out, tenant, entries)
            self._check_images(tenant, findings)
        findings.faults += [f"receipt {each.id} has no seal" for each in handed_out if each.seal is None]
        return findings

    def remove_again(self, findings: Findings) -> None:
        """Remove what came back, as a restored snapshot of the collection brings it."""
        for image in findings.returned:
            self.memory.delete([image])
        for tenant, images in groupby(findings.returned, key=lambda image: image.tenant):
            covered = CoveredImages.of(images)
            for undo in self.undo:
                undo(tenant, covered)
        self.pictures.delete([*findings.pictures, *(image.picture for image in findings.returned)])

    def _check_records(self, tenant: str, entries: list[Seal], findings: Findings) -> None:
        records = {}
        for removal_id in self.removals.ids(tenant):
            try:
                records[removal_id] = self.removals.load(tenant, removal_id).removal
            except ValueError:
                findings.faults.append(f"the record of removal {removal_id} is damaged")
        findings.removals += len(records)
        running = {removal.id for removal in self.removals.running(tenant)}
        findings.running += len(running)
        latest = {entry.removal: entry for entry in entries}
        asked = {entry.removal: entry for entry in entries if entry.event is Event.REQUESTED}
        for removal_id in sorted(latest.keys() - {*self.removals.ids(tenant)}):
            findings.faults.append(f"the record of removal {removal_id} is gone, but the log has it")
        for removal in records.values():
            if removal.id not in running:
                findings.faults += _faults(removal, asked.get(removal.id), latest.get(removal.id))

    def _check_images(self, tenant: str, findings: Findings) -> None:
        buried = self.removals.buried(tenant)
        for page in self.memory.pages(tenant, [], PAGE):
            findings.images += len(page)
            for image in page:
                if burial(image.picture) in buried:
                    findings.faults.append(f"image {image.image_id} of {tenant} is back, but a removal covered it")
                    findings.returned.append(image)
        for key in self.pictures.all(tenant):
            if burial(key) in buried:
                findings.faults.append(f"picture {key} is there, but a removal covered it")
                findings.pictures.append(key)


def _faults(removal: Removal, asked: Seal | None, latest: Seal | None) -> Iterator[str]:
    """What is wrong with the record of a removal that nobody works on."""
    if removal.status is not RemovalStatus.DONE:
        yield f"removal {removal.id} is not done, and nothing says that it is to be carried on"
    if asked is None or latest is None:
        yield f"removal {removal.id} has a record, but the log does not have it"
        return
    if asked.digest != digest_of(Event.REQUESTED, removal):
        yield f"the record of removal {removal.id} says that something else was asked for than the log"
    if latest.digest != digest_of(latest.event, removal) or latest != removal.seal:
        yield f"the receipt of removal {removal.id} was changed after it was sealed"


def _unknown(receipts: Iterable[Removal], tenant: str, entries: Iterable[Seal]) -> Iterator[str]:
    """What is wrong with receipts that were handed out."""
    numbered = {entry.number: entry for entry in entries}
    for receipt in receipts:
        if receipt.seal is None or receipt.seal.tenant != tenant:
            continue
        if numbered.get(receipt.seal.number) != receipt.seal:
            yield f"receipt {receipt.id} is not in the log"
        elif receipt.seal.digest != digest_of(receipt.seal.event, receipt):
            yield f"receipt {receipt.id} was changed after it was sealed"
