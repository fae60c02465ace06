"""Erase the bytes of removed data from disks, and issue each removal a receipt of that.

One compaction serves all waiting removals. They are selected before it begins; later removals wait for the next one. So
does a removal while there is a file that may belong to it and that no point refers to, because a process may be about
to put that point.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Claim, ErasurePayload, Event
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.resource_leases import Lease
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.removal.erasure.erasure_records import ErasureRecords
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState
from visual_memory.services.vector_engines.engine_contract import Compaction

DUTY = "compaction"
RETRY = timedelta(hours=1)
"""The pause after an attempt that failed, for example because the disk was full."""
SMALL_DELAY = timedelta(minutes=5)
"""How long removed data waits if the compaction is small: with it, erasure takes less than the promised 10 minutes."""
SMALL_BYTES = 2**30
LEASE = timedelta(minutes=2)
POLL = 1.0
CLOCK_TOLERANCE = timedelta(seconds=2)
"""The largest difference between our clock and that of the pictures' store."""
LOST_ENTRY = "the log of receipts has lost the entry of this removal"


@dataclass(frozen=True)
class EraseRemovedData:
    """Erases what removals deleted.

    Attributes:
        claim: states what the erasure covers, given what the operators of engine, database and intake must erase.
        erase_intake: erases removed entries from the intake's files; returns what its operator must erase.
        write_to_mirror: as in `services.removal.steps.seal_receipt.SealReceipt`.
        size: returns how many bytes the compaction rewrites.
        every: how long removed data may wait if the compaction is not small.
        keep: renews a lease meanwhile.
        sleep: waits a number of seconds.
    """

    memory: Memory
    removals: RemovalRecords
    erasures: ErasureRecords
    receipt_log: ReceiptLog
    remove_orphans: RemoveOrphanFiles
    claim: Callable[[str, str, str], Claim]
    erase_intake: Callable[[], str]
    write_to_mirror: Callable[[str, int], object]
    size: Callable[[], int]
    every: timedelta
    keep: Callable[[Lease], AbstractContextManager[object]] = nullcontext
    sleep: Callable[[float], object] = time.sleep

    def __call__(self) -> Compaction:
        """Erase what was removed before the call, and issue the receipts.

        Waits until files without a point are old enough to be deleted.

        Raises:
            OutOfSpace: the disk has no space for the compaction.
            Unavailable: another compaction is running.
        """
        with self._owned() as lease:
            self._select(lease, self.remove_orphans.grace.total_seconds())
            return self._erase(lease)

    def if_due(self, moment: datetime | None = None) -> Compaction | None:
        """Erase if a removal has waited long enough; recovers from a compaction that was killed.

        Args:
            moment: the present; simulations set it.
        """
        moment = moment or now()
        self.memory.recover()
        self._issue_receipts()
        wait = SMALL_DELAY if self.size() < SMALL_BYTES else self.every
        task_runs = self.remove_orphans.task_runs
        may_try = task_runs.is_due(DUTY, min(wait, RETRY), moment) or self.erasures.is_due_at_once()
        if not may_try or not self.erasures.is_due(wait, moment):
            return None
        with task_runs.running(DUTY, moment), self._owned() as lease:
            return self._erase(lease) if self._select(lease, 0) else None

    @contextmanager
    def _owned(self) -> Iterator[Lease]:
        with self.removals.leases.held(DUTY, LEASE) as lease:
            if lease is None:
                raise Unavailable("another compaction is at work: try again once it has ended")
            with self.keep(lease):
                yield lease

    def _select(self, lease: Lease, timeout: float) -> int:
        """Select the removals of this erasure, once no file is left that may belong to them; returns their number."""
        waited = 0.0
        while True:
            with self.removals.transaction(lease) as connection:
                until = self.removals.database.moment(connection)
            orphans = self.remove_orphans()
            young = {tenant: since - CLOCK_TOLERANCE for tenant, since in orphans.young.items()}
            with self.removals.transaction(lease) as connection:
                selected = self.erasures.begin(connection, lease.token, until, young) if orphans.is_complete else 0
            if selected == self.erasures.waiting() or waited >= timeout:
                return selected
            self.sleep(POLL)
            waited += POLL

    def _erase(self, lease: Lease) -> Compaction:
        done = self.memory.compact()
        records_note = self.removals.database.erase_deleted()
        intake_note = self.erase_intake()
        claim = self.claim(done.note, records_note, intake_note)
        for state in self.erasures.of(lease.token):
            with log_and_continue("erasure", state.id):
                self._write_entry(state, lease, done, claim)
        self._issue_receipts()
        return Compaction(done.erased, " ".join(filter(None, (done.note, records_note, intake_note))))

    def _write_entry(self, state: RemovalState, lease: Lease, done: Compaction, claim: Claim) -> None:
        removed = self.receipt_log.find_one(state.tenant, state.id, Event.DONE)
        if removed is None:
            raise Unavailable(LOST_ENTRY)
        with self.removals.transaction(lease) as connection:
            erased_at = self.erasures.end(connection, state.id, lease.token, done.erased, done.note)
            payload = ErasurePayload(receipt=removed.digest, erased_at=erased_at, erased=done.erased, claim=claim)
            self.receipt_log.append(connection, state.tenant, state.id, payload)

    def _issue_receipts(self) -> None:
        """Issue the receipts of what is erased, each once the mirror has it."""
        for state in self.erasures.without_receipt():
            with log_and_continue("erasure", state.id):
                entry = self.receipt_log.find_one(state.tenant, state.id, Event.ERASED)
                if entry is None:
                    raise Unavailable(LOST_ENTRY)
                try:
                    self.write_to_mirror(state.tenant, entry.number)
                except Unavailable as error:
                    self.removals.set_waits_for(state.id, error.message)
                    raise
                self.erasures.set_receipt(state.id, entry.text)
