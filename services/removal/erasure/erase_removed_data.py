"""Compact: after it the bytes of what was removed are gone from the disk, and each removal gets a receipt of that.

One rewrite is for all removals that wait. Which these are is fixed before it begins: what is done later waits for the
next one, and so does a removal as long as there is a file that may be of it and that no point has, for somebody may be
about to put the point.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.image import now
from visual_memory.schemas.receipt import Claim, ErasurePayload, Event
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.resource_leases import Lease
from visual_memory.services.memory.memory import Memory
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.removal.erasure.erasure_records import ErasureRecords
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState
from visual_memory.services.vector_engines.engine_contract import Compaction

DUTY = "compaction"
RETRY = timedelta(hours=1)
"""How long after one that came to nothing, for there was no room for it, another is tried."""
SOON = timedelta(minutes=5)
"""How long what was removed waits where the rewrite is small: with that it takes less than the 10 minutes promised."""
SMALL = 2**30
"""Bytes."""
LEASE = timedelta(minutes=2)
POLL = 1.0
CLOCKS = timedelta(seconds=2)
"""By how much the clock of the pictures' disk may differ."""


@dataclass(frozen=True)
class EraseRemovedData:
    """The use case, with the parts that it needs.

    Attributes:
        claim: says what the erasure covers, given what engine, database and intake leave to their operators.
        erase_intake: erases from the intake's files what has left it; returns what it leaves to its operator.
        write_to_mirror: as in `services.removal.removal_steps.Forget`.
        size: how many bytes are about to be rewritten.
        every: how long what was removed may wait for it where that is much.
        keep: prolongs a lease meanwhile.
        sleep: waits so many seconds.
    """

    memory: Memory
    removals: RemovalRecords
    erasures: ErasureRecords
    receipt_log: ReceiptLog
    tidy: RemoveOrphanFiles
    claim: Callable[[str, str, str], Claim]
    erase_intake: Callable[[], str]
    write_to_mirror: Callable[[str, int], object]
    size: Callable[[], int]
    every: timedelta
    keep: Callable[[Lease], AbstractContextManager[object]] = nullcontext
    sleep: Callable[[float], object] = time.sleep

    def __call__(self) -> Compaction:
        """Erase what was removed before the call, and give the receipts of that.

        Files without a point are waited for until they are old enough to go.

        Raises:
            OutOfSpace: there is no room for what it takes.
            Unavailable: another compaction is at work.
        """
        with self._owned() as lease:
            self._choose(lease, self.tidy.grace.total_seconds())
            return self._erase(lease)

    def if_due(self, moment: datetime | None = None) -> Compaction | None:
        """The same, where a removal has waited for it long enough; puts right what one that died left.

        Args:
            moment: the present; given by those who simulate it.
        """
        moment = moment or now()
        self.memory.recover()
        self._give_receipts()
        wait = SOON if self.size() < SMALL else self.every
        rested = self.tidy.schedule.is_due(DUTY, min(wait, RETRY), moment) or self.erasures.is_due_at_once()
        if not rested or not self.erasures.is_due(wait, moment):
            return None
        with self.tidy.schedule.running(DUTY, moment), self._owned() as lease:
            return self._erase(lease) if self._choose(lease, 0) else None

    @contextmanager
    def _owned(self) -> Iterator[Lease]:
        with self.removals.leases.held(DUTY, LEASE) as lease:
            if lease is None:
                raise Unavailable("another compaction is at work: try again once it has ended")
            with self.keep(lease):
                yield lease

    def _choose(self, lease: Lease, patience: float) -> int:
        """Fix which removals this one is for, once all files are gone that may be of them; returns how many."""
        waited = 0.0
        while True:
            with self.removals.owned(lease) as connection:
                until = self.removals.database.moment(connection)
            orphans = self.tidy()
            left = {tenant: since - CLOCKS for tenant, since in orphans.left.items()}
            with self.removals.owned(lease) as connection:
                chosen = self.erasures.begin(connection, lease.token, until, left) if orphans.is_whole else 0
            if chosen == self.erasures.waiting() or waited >= patience:
                return chosen
            self.sleep(POLL)
            waited += POLL

    def _erase(self, lease: Lease) -> Compaction:
        done = self.memory.compact()
        records_note = self.removals.database.erase_deleted()
        intake_note = self.erase_intake()
        claim = self.claim(done.note, records_note, intake_note)
        for state in self.erasures.of(lease.token):
            with log_and_continue("erasure", state.id):
                self._end(state, lease, done, claim)
        self._give_receipts()
        return Compaction(done.erased, " ".join(filter(None, (done.note, records_note, intake_note))))

    def _end(self, state: RemovalState, lease: Lease, done: Compaction, claim: Claim) -> None:
        removed = self.receipt_log.find_one(state.tenant, state.id, Event.DONE)
        if removed is None:
            raise Unavailable("the log of receipts does not have it any more")
        with self.removals.owned(lease) as connection:
            erased_at = self.erasures.end(connection, state.id, lease.token, done.erased, done.note)
            payload = ErasurePayload(receipt=removed.digest, erased_at=erased_at, erased=done.erased, claim=claim)
            self.receipt_log.append(connection, state.tenant, state.id, payload)

    def _give_receipts(self) -> None:
        """Give the receipts of what is erased, each once the mirror has it."""
        for state in self.erasures.without_receipt():
            with log_and_continue("erasure", state.id):
                entry = self.receipt_log.find_one(state.tenant, state.id, Event.ERASED)
                if entry is None:
                    raise Unavailable("the log of receipts does not have it any more")
                try:
                    self.write_to_mirror(state.tenant, entry.number)
                except Unavailable as error:
                    self.removals.say_waiting(state.id, error.message)
                    raise
                self.erasures.give_receipt(state.id, entry.text)
