"""Brings the mirror to the log's end before a receipt is given, and holds one against the other.

The mirror may be behind the log by what is not given yet, and is never ahead: where it is, the log was cut off, or is
an older one that a backup brought back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import RECEIPTS
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.receipts.mirror_files import MirrorFiles, RemovedDigests
from visual_memory.services.receipts.mirrored_digests import WAITING, MirrorRows
from visual_memory.services.receipts.receipt_log import LogEntry, ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid


@dataclass(frozen=True)
class MirrorSync:
    """The use case, with the parts that it needs.

    Attributes:
        mirror: None where the settings name none: then nothing waits for it.
    """

    log: ReceiptLog
    rows: MirrorRows
    mirror: MirrorFiles | None

    def write_up_to(self, tenant: str, number: int) -> None:
        """See to it that the mirror has a tenant's entries up to a number; only then may that one be given.

        Raises:
            Unavailable: the mirror does not take them; the message says so, and trying it again is right.
        """
        if self.mirror is None:
            return
        try:
            for entry in self.log.entries(tenant, self._last_there(self.mirror, tenant, number)):
                if entry.number > number:
                    return
                self.mirror.write(entry, self._pages(entry))
        except Unavailable as error:
            prometheus_metrics.MIRROR_FAILURES.labels(tenant).inc()
            raise Unavailable(f"{WAITING}: {error.message}") from error

    def check(self) -> None:
        """Return if the mirror answers, and no receipt waits for it.

        Raises:
            Unavailable: it does not, or one does.
        """
        if self.mirror is None:
            return
        reason = self.rows.waits_for()
        if reason:
            raise Unavailable(reason)
        self.mirror.ping()

    def faults(self, tenant: str) -> Iterator[str]:
        """What is wrong between a tenant's log and the mirror, a sentence each."""
        if self.mirror is None:
            return
        log_end, last = self.log.end(tenant), 0
        try:
            for mirrored in self.mirror.entries(tenant):
                entry = mirrored.entry
                yield from (f"entry {number} of the mirror is missing" for number in range(last + 1, entry.number))
                last = entry.number
                for _ in mirrored.pages:  # reading one checks it
                    pass
                own = self.log.entry(tenant, entry.number)
                if own is not None and own.text != entry.text:
                    yield f"entry {entry.number} of the log is another than the mirror's"
        except NotValid as error:
            yield str(error)
            return
        if last > (end := max(log_end, self.log.end(tenant))):
            yield f"the log ends at entry {end}, but the mirror has entries up to {last}: the log was cut off"
        for entry in self._given_after(tenant, last):
            yield f"the mirror ends at entry {last}, but receipt {entry.number} was given: the mirror was cut off"

    def tenants(self) -> Sequence[str]:
        """Everybody who has entries in the mirror."""
        return self.mirror.tenants() if self.mirror else []

    def adopt_later(self, tenant: str) -> list[LogEntry]:
        """Take over what the mirror has after the log's end: entries, tombstones and blocks; returns the entries.

        It is for a log that a backup brought back.

        Raises:
            NotValid: the mirror is damaged, or is of another log, or does not go as far as a receipt that was given.
        """
        if self.mirror is None:
            return []
        for fault in self.faults(tenant):
            if "the log was cut off" not in fault:
                raise NotValid(fault)
        adopted = []
        for mirrored in self.mirror.entries(tenant, self.log.end(tenant)):
            entry = mirrored.entry
            for page in mirrored.pages:
                with self.log.database.write(urgent=True) as connection:
                    self.rows.adopt(connection, tenant, entry.removal, page)
            with self.log.database.write(urgent=True) as connection:
                self.log.adopt(connection, [entry])
            adopted.append(entry)
        return adopted

    def _last_there(self, mirror: MirrorFiles, tenant: str, number: int) -> int:
        """The last entry before a number that the mirror holds; where entries are missing, that is the one before."""
        earlier = self.log.entry(tenant, number - 1)
        if earlier is None or mirror.holds(earlier):
            return number - 1
        last = min(mirror.end(tenant), number - 1)
        while (earlier := self.log.entry(tenant, last)) and not mirror.holds(earlier):
            last -= 1
        return last

    def _pages(self, entry: LogEntry) -> Iterator[RemovedDigests]:
        return self.rows.pages(entry.removal) if entry.event in RECEIPTS else iter(())

    def _given_after(self, tenant: str, number: int) -> Iterator[LogEntry]:
        """The receipts after a number that were given: those of removals that wait for nothing."""
        for entry in self.log.entries(tenant, number):
            if entry.event in RECEIPTS and self.rows.is_given(entry.removal, entry.text):
                yield entry
