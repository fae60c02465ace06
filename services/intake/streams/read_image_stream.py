"""Read a tenant's stream, a turn at a time: claim what others left, accept it and what is new, let it leave.

One reader has a stream at a time: whoever has the lease ``intake:TENANT``. It gives it back after each turn, so that a
removal, which goes through the stream under the same lease, has its turn too; what it was handed stays its own, and
whether anybody else had the stream meanwhile is seen by whose the entries are that wait.

An entry that may have ended its reader is begun by itself the next time, and so often at most; so is one that could not
be handled. Nothing is read while the store or a disk takes nothing: what is in hand is tried again until it does.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.redis_streams.redis_streams import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entries import Ended, Entry, Result, Status
from visual_memory.services.intake.streams.accept_image_entries import REFUSED, AcceptImageEntries, HeldUp
from visual_memory.services.intake.streams.entry_fence import EntryFence, Refusals, Undrained
from visual_memory.services.intake.streams.parse_entries import MOST_BYTES, MOST_ENTRIES, ReadableEntry, read
from visual_memory.services.intake.streams.pending_entries import PendingEntries
from visual_memory.services.removal.intake_contract import intake_resource

AT_ONCE = 64
"""Entries that are asked for at once: of the largest these are 27 MB."""
TURN_SECONDS = 1.0
"""After so long others have their turn."""
MOST_TRIES = 5
"""So often an entry is begun by itself: its reader may have been ended by something else."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds until a stream is read again whose entries could not be accepted."""
HELD_PAUSE = 0.5
"""Seconds until a stream is read again that is another's, or has entries that are held up."""
ENDED_READERS = f"its reader ended {MOST_TRIES} times while it was at this entry"

log = logging.getLogger(__name__)


class ImageStreamReader:
    """The reader of one process; of a tenant it has one turn at a time.

    Args:
        streams: of all tenants.
        leases: of the records.
        duration: of a lease; longer than a write may take.
        accept: the use case as it is at the moment.
        undrained: the removals that have not gone through a stream yet.
        refused: what removals took.
        consumer: its name in the groups.
        is_told: whether it is to end.
    """

    def __init__(
        self,
        streams: Streams,
        leases: Leases,
        duration: timedelta,
        accept: Callable[[], AcceptImageEntries],
        undrained: Undrained,
        refused: Refusals,
        consumer: str,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._streams, self._leases, self._duration = streams, leases, duration
        self._accept, self._undrained, self._refused = accept, undrained, refused
        self._consumer, self._is_stopping = consumer, is_stopping
        self._pending: dict[str, PendingEntries] = {}

    def read_round(self, tenant: str) -> float:
        """Read a tenant's stream for a while, if nobody else does; returns the seconds until its next turn."""
        pending = self._pending.setdefault(tenant, PendingEntries())
        try:
            with self._leases.held(intake_resource(tenant), self._duration) as lease:
                if lease is None:
                    return HELD_PAUSE
                self._read(tenant, pending, lease)
            pending.pause = 0.0
            return HELD_PAUSE if pending.entries or self._undrained(tenant) else 0.0
        except Superseded:
            log.info("the stream of %s is another's by now", tenant)
            pending.is_known = False
            return HELD_PAUSE
        except Unavailable as error:
            pending.is_known = False
            pending.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pending.pause))
            log.warning("the stream of %s is read on in %g s: %s", tenant, pending.pause, kind(error))
            return pending.pause

    def leave(self) -> None:
        """Let the groups forget this reader, where it has nothing in hand."""
        for tenant, pending in self._pending.items():
            if not pending.entries:
                with suppress(Unavailable):
                    self._streams.remove_consumer(tenant, self._consumer)

    def _read(self, tenant: str, pending: PendingEntries, lease: Lease) -> None:
        fence = EntryFence(tenant, self._leases, lease, self._undrained, self._refused)
        until = time.monotonic() + TURN_SECONDS
        if not pending.is_all(self._streams.pending(tenant), self._consumer):
            pending.replace(self._streams.claim(tenant, self._consumer))
        if pending.entries:
            self._work(pending, fence, [*pending.entries.values()])
        while not (pending.is_full or self._is_stopping() or time.monotonic() >= until):
            entries = self._next(tenant, pending)
            if not entries:
                return
            self._work(pending, fence, entries)
            if self._undrained(tenant):  # it waits for the stream
                return

    def _next(self, tenant: str, pending: PendingEntries) -> list[Entry]:
        """Have in hand what nobody was handed yet, as much as goes into one write."""
        entries: list[Entry] = []
        while len(entries) < MOST_ENTRIES and sum(len(entry.event) for entry in entries) < MOST_BYTES:
            pending.is_known = False  # should the answer be lost
            some = self._streams.read(tenant, self._consumer, AT_ONCE)
            pending.add(some)
            pending.is_known = True
            entries += some
            if len(some) < AT_ONCE:
                break
        return entries

    def _work(self, pending: PendingEntries, fence: EntryFence, entries: Sequence[Entry]) -> None:
        """Accept entries in their order, but for those that are held up: by a removal, or by what comes before."""
        taken = self._refused.refused_among(fence.tenant, {entry.position for entry in entries})
        behind = fence.of(entries).held_up()
        waiting = {entry.id for entry in entries if entry.id in behind or pending.waits(entry.id)}
        refused = [entry for entry in entries if entry.position in taken and entry.id not in behind]
        self._end(pending, fence, [Ended(each, Result(each.id, Status.REMOVED, reason=REFUSED)) for each in refused])
        self._say(pending, fence.tenant, [Result(each, Status.HELD) for each in behind & pending.entries.keys()])
        now = [entry for entry in entries if entry.id in pending.entries and entry.id not in waiting]
        held = {
            image_id
            for each in pending.entries.keys() - {entry.id for entry in now}
            for image_id in pending.image_ids(each)
        }
        found = [read(entry) for entry in now]
        self._end(pending, fence, [each for each in found if isinstance(each, Ended)])
        self._accept_all(pending, fence, [each for each in found if isinstance(each, ReadableEntry)], held)

    def _accept_all(
        self, pending: PendingEntries, fence: EntryFence, entries: Sequence[ReadableEntry], held: set[str]
    ) -> None:
        """Accept entries together, but by themselves those that may end this reader."""
        together: list[ReadableEntry] = []
        for each in entries:
            if each.entry.id not in pending.alone:
                together.append(each)
                continue
            self._accept_some(pending, fence, together, held)
            together = []
            self._accept_alone(pending, fence, each, held)
        self._accept_some(pending, fence, together, held)

    def _accept_some(
        self,
        pending: PendingEntries,
        fence: EntryFence,
        entries: Sequence[ReadableEntry],
        held: set[str],
        tries: int = 0,
    ) -> bool:
        """Accept entries as one; returns whether all could be handled, if only by holding them up."""
        could = True
        if not entries or self._is_stopping():
            return could
        for outcomes in self._accept()(entries, fence, held):
            self._end(pending, fence, [each for each in outcomes if isinstance(each, Ended)])
            left = [each for each in outcomes if isinstance(each, HeldUp)]
            for each in left:
                if each.failed:
                    could = False
                    pending.fail(each.readable.entry.id, each.reason, tries)
            said = (each.readable for each in left if not each.failed)
            self._say(pending, fence.tenant, [each.ended(Status.HELD).result for each in said])
        return could

    def _accept_alone(self, pending: PendingEntries, fence: EntryFence, entry: ReadableEntry, held: set[str]) -> None:
        """Accept one that is counted before it is begun: if it ends this reader, the next one knows."""
        if self._is_stopping() or entry.ids & held:
            held |= entry.ids
            return
        tenant, entry_id = fence.tenant, entry.entry.id
        tries = self._streams.count_attempt(tenant, entry_id)
        if tries > MOST_TRIES:
            reason = pending.faults.get(entry_id, ENDED_READERS)
            self._end(pending, fence, [entry.ended(Status.DEAD, reason=reason)])
            return
        could = True
        try:
            could = self._accept_some(pending, fence, [entry], held, tries)
        except Exception:  # the store does not answer, or the stream is another's: it is not this entry's fault
            self._give_up(tenant, entry_id)
            raise
        if could and entry_id in pending.entries:
            self._give_up(tenant, entry_id)

    def _give_up(self, tenant: str, entry_id: str) -> None:
        with suppress(Unavailable):
            self._streams.reset_attempts(tenant, entry_id)

    def _end(self, pending: PendingEntries, fence: EntryFence, outcomes: Sequence[Ended]) -> None:
        """Let entries leave, but for those that a removal came before meanwhile: it is to count them."""
        if not outcomes:
            return
        waiting = fence.of(each.entry for each in outcomes).held_up()
        ended = [each for each in outcomes if each.entry.id not in waiting]
        self._streams.end(fence.tenant, ended)
        for each in ended:
            prometheus_metrics.INTAKE.labels(fence.tenant, each.result.status).inc()
        pending.drop(each.entry.id for each in ended)

    def _say(self, pending: PendingEntries, tenant: str, results: Sequence[Result]) -> None:
        """Say once of each entry that it is held up."""
        new = [each for each in results if each.entry not in pending.said]
        if new:
            self._streams.publish(tenant, new)
            pending.said.update(each.entry for each in new)
