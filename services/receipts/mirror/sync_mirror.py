"""Write log entries to the mirror before their receipts are issued, and compare the mirror with the log.

The mirror may lack entries whose receipts are not issued yet. It never has entries that the log lacks, unless the log
was cut off or restored from an older backup.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import RECEIPTS
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.mirror.issued_receipts import WAITING_FOR_MIRROR, IssuedReceipts
from visual_memory.services.receipts.mirror.mirror_files import MirrorFiles, RemovedDigests
from visual_memory.services.receipts.mirror.mirrored_digests import MirroredDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid

LOG_CUT_OFF = "the log was cut off"


@dataclass(frozen=True)
class MirrorSync:
    """Keeps a mirror up to date with the log.

    Attributes:
        mirror: None if the settings name none; then no receipt waits for it.
    """

    log: ReceiptLog
    digests: MirroredDigests
    issued: IssuedReceipts
    mirror: MirrorFiles | None

    def write_up_to(self, tenant: str, number: int) -> None:
        """Write a tenant's entries up to a number to the mirror; only then may the receipt of that entry be issued.

        Raises:
            Unavailable: the mirror does not accept an entry; the call can be repeated.
        """
        if self.mirror is None:
            return
        try:
            for entry in self.log.entries(tenant, self._last_mirrored(self.mirror, tenant, number)):
                if entry.number > number:
                    return
                self.mirror.write(entry, self._pages(entry))
        except Unavailable as error:
            prometheus_metrics.MIRROR_FAILURES.inc()
            raise Unavailable(f"{WAITING_FOR_MIRROR}: {error.message}") from error

    def check(self) -> None:
        """Return if the mirror answers and no receipt waits for it.

        Raises:
            Unavailable: the mirror does not answer, or a receipt waits for it.
        """
        if self.mirror is None:
            return
        reason = self.issued.waiting_reason()
        if reason:
            raise Unavailable(reason)
        self.mirror.ping()

    def faults(self, tenant: str) -> Iterator[str]:
        """The differences between a tenant's log and the mirror, one sentence each."""
        if self.mirror is None:
            return
        log_end, last = self.log.end(tenant), 0
        try:
            for mirrored in self.mirror.entries(tenant):
                entry = mirrored.entry
                yield from (f"entry {number} of the mirror is missing" for number in range(last + 1, entry.number))
                last = entry.number
                for _ in mirrored.pages:  # reading a page checks it
                    pass
                logged = self.log.entry(tenant, entry.number)
                if logged is not None and logged.text != entry.text:
                    yield f"entry {entry.number} of the log is another than the mirror's"
        except NotValid as error:
            yield str(error)
            return
        if last > (end := max(log_end, self.log.end(tenant))):
            yield f"the log ends at entry {end}, but the mirror has entries up to {last}: {LOG_CUT_OFF}"
        for entry in self._issued_after(tenant, last):
            yield f"the mirror ends at entry {last}, but receipt {entry.number} was given: the mirror was cut off"

    def tenants(self) -> Sequence[str]:
        """The tenants that have entries in the mirror."""
        return self.mirror.tenants() if self.mirror else []

    def restore_later(self, tenant: str) -> list[LogEntry]:
        """Add what the mirror has after the log's end: entries, tombstones and blocks; returns the entries.

        For a log that was restored from a backup.

        Raises:
            NotValid: the mirror is damaged, belongs to another log, or lacks a receipt that was issued.
        """
        if self.mirror is None:
            return []
        for fault in self.faults(tenant):
            if LOG_CUT_OFF not in fault:
                raise NotValid(fault)
        added = []
        for mirrored in self.mirror.entries(tenant, self.log.end(tenant)):
            entry = mirrored.entry
            for page in mirrored.pages:
                with self.log.database.write(urgent=True) as connection:
                    self.digests.add(connection, tenant, entry.removal, page)
            with self.log.database.write(urgent=True) as connection:
                self.log.append_mirrored(connection, [entry])
            added.append(entry)
        return added

    def _last_mirrored(self, mirror: MirrorFiles, tenant: str, number: int) -> int:
        """The last entry before a number that the mirror has; the log's entry before it if the log has gaps."""
        earlier = self.log.entry(tenant, number - 1)
        if earlier is None or mirror.contains(earlier):
            return number - 1
        last = min(mirror.end(tenant), number - 1)
        while (earlier := self.log.entry(tenant, last)) and not mirror.contains(earlier):
            last -= 1
        return last

    def _pages(self, entry: LogEntry) -> Iterator[RemovedDigests]:
        return self.digests.pages(entry.removal) if entry.event in RECEIPTS else iter(())

    def _issued_after(self, tenant: str, number: int) -> Iterator[LogEntry]:
        """The entries after a number that were issued as receipts."""
        for entry in self.log.entries(tenant, number):
            if entry.event in RECEIPTS and self.issued.is_issued(entry.removal, entry.text):
                yield entry
