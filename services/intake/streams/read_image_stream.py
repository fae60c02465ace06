"""Read the stream of a tenant's images: claim pending entries, accept them and new ones, and delete them.

One reader at a time has the lease ``intake:TENANT`` on a stream. It releases it after each round, so that a removal can
search the stream under the same lease. Its pending entries stay its own; from their consumers it sees whether another
reader has had the stream meanwhile.

An entry that may have crashed its reader, or that failed, is processed on its own the next time, and only a few times.
While the store or a disk accepts no writes nothing is read, and the pending entries are tried again.
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
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.intake.streams.accept_image_entries import REFUSED, AcceptImageEntries, HeldUp
from visual_memory.services.intake.streams.check_stream_ownership import EntryFence, Refusals, Undrained
from visual_memory.services.intake.streams.parse_entries import MAX_BYTES, MAX_ENTRIES, ReadableEntry, read
from visual_memory.services.intake.streams.pending_entries import PendingEntries
from visual_memory.services.removal.intake_contract import intake_resource

AT_ONCE = 64
"""Entries that are read at once; the largest are 27 MB together."""
ROUND_SECONDS = 1.0
"""Longest duration of a round, so that other tenants are served."""
MAX_TRIES = 5
"""How often an entry is processed on its own: its reader may have been ended by something else."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds until the next round after one that failed."""
HELD_PAUSE = 0.5
"""Seconds until the next round if another process has the lease, or entries are held."""
ENDED_READERS = f"its reader ended {MAX_TRIES} times while it was at this entry"

log = logging.getLogger(__name__)


class ImageStreamReader:
    """The reader of one process; runs one round of a tenant at a time.

    Args:
        streams: the streams of all tenants.
        leases: the leases in the records.
        duration: of a lease; longer than any write takes.
        accept: returns the use case for the active encoder.
        undrained: the removals that have not searched a stream yet.
        refused: the entries that removals deleted.
        consumer: the reader's name in the consumer groups.
        is_stopping: whether the process is stopping.
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
        """Read the stream of a tenant for a while, unless another does; returns the seconds until its next round."""
        pending = self._pending.setdefault(tenant, PendingEntries())
        try:
            with self._leases.held(intake_resource(tenant), self._duration) as lease:
                if lease is None:
                    return HELD_PAUSE
                self._read(tenant, pending, lease)
            pending.pause = 0.0
            return HELD_PAUSE if pending.entries or self._undrained(tenant) else 0.0
        except Superseded:
            log.info("another process reads the stream of %s by now", tenant)
            pending.is_known = False
            return HELD_PAUSE
        except Unavailable as error:
            pending.is_known = False
            pending.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pending.pause))
            log.warning("reading the stream of %s resumes in %g s: %s", tenant, pending.pause, kind(error))
            return pending.pause

    def leave(self) -> None:
        """Delete this reader from the consumer groups, unless it has pending entries."""
        for tenant, pending in self._pending.items():
            if not pending.entries:
                with suppress(Unavailable):
                    self._streams.remove_consumer(tenant, self._consumer)

    def _read(self, tenant: str, pending: PendingEntries, lease: Lease) -> None:
        fence = EntryFence(tenant, self._leases, lease, self._undrained, self._refused)
        until = time.monotonic() + ROUND_SECONDS
        if not pending.is_all(self._streams.pending(tenant), self._consumer):
            pending.replace(self._streams.claim(tenant, self._consumer))
        if pending.entries:
            self._work(pending, fence, [*pending.entries.values()])
        while not (pending.is_full or self._is_stopping() or time.monotonic() >= until):
            entries = self._next(tenant, pending)
            if not entries:
                return
            self._work(pending, fence, entries)
            if self._undrained(tenant):  # a removal waits for the lease
                return

    def _next(self, tenant: str, pending: PendingEntries) -> list[Entry]:
        """Read new entries, as many as fit in one write."""
        entries: list[Entry] = []
        while len(entries) < MAX_ENTRIES and sum(len(entry.event) for entry in entries) < MAX_BYTES:
            pending.is_known = False  # the answer may be lost
            some = self._streams.read(tenant, self._consumer, AT_ONCE)
            pending.add(some)
            pending.is_known = True
            entries += some
            if len(some) < AT_ONCE:
                break
        return entries

    def _work(self, pending: PendingEntries, fence: EntryFence, entries: Sequence[Entry]) -> None:
        """Accept entries in order, except those that a removal or an earlier held entry delays."""
        taken = self._refused.refused_among(fence.tenant, {entry.position for entry in entries})
        behind = fence.of(entries).held_up()
        waiting = {entry.id for entry in entries if entry.id in behind or pending.waits(entry.id)}
        refused = [entry for entry in entries if entry.position in taken and entry.id not in behind]
        self._end(pending, fence, [Ended(each, Result(each.id, Status.REMOVED, reason=REFUSED)) for each in refused])
        self._report_held(
            pending, fence.tenant, [Result(each, Status.HELD) for each in behind & pending.entries.keys()]
        )
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
        """Accept entries together, and those that may crash this reader on their own."""
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
        """Accept entries; returns whether none of them failed."""
        succeeded = True
        if not entries or self._is_stopping():
            return succeeded
        for outcomes in self._accept()(entries, fence, held):
            self._end(pending, fence, [each for each in outcomes if isinstance(each, Ended)])
            left = [each for each in outcomes if isinstance(each, HeldUp)]
            for each in left:
                if each.failed:
                    succeeded = False
                    pending.fail(each.readable.entry.id, each.reason, tries)
            held_up = (each.readable for each in left if not each.failed)
            self._report_held(pending, fence.tenant, [each.ended(Status.HELD).result for each in held_up])
        return succeeded

    def _accept_alone(self, pending: PendingEntries, fence: EntryFence, entry: ReadableEntry, held: set[str]) -> None:
        """Accept one entry; the attempt is counted before, so that the next reader knows if this one crashes."""
        if self._is_stopping() or entry.ids & held:
            held |= entry.ids
            return
        tenant, entry_id = fence.tenant, entry.entry.id
        tries = self._streams.count_attempt(tenant, entry_id)
        if tries > MAX_TRIES:
            reason = pending.faults.get(entry_id, ENDED_READERS)
            self._end(pending, fence, [entry.ended(Status.DEAD, reason=reason)])
            return
        succeeded = True
        try:
            succeeded = self._accept_some(pending, fence, [entry], held, tries)
        except Exception:  # the store does not answer, or the lease is lost: not the fault of this entry
            self._reset_attempts(tenant, entry_id)
            raise
        if succeeded and entry_id in pending.entries:
            self._reset_attempts(tenant, entry_id)

    def _reset_attempts(self, tenant: str, entry_id: str) -> None:
        with suppress(Unavailable):
            self._streams.reset_attempts(tenant, entry_id)

    def _end(self, pending: PendingEntries, fence: EntryFence, outcomes: Sequence[Ended]) -> None:
        """End entries, except those that a removal must search first, because it counts them."""
        if not outcomes:
            return
        waiting = fence.of(each.entry for each in outcomes).held_up()
        ended = [each for each in outcomes if each.entry.id not in waiting]
        self._streams.end(fence.tenant, ended)
        for each in ended:
            prometheus_metrics.INTAKE.labels(each.result.status).inc()
        pending.drop(each.entry.id for each in ended)

    def _report_held(self, pending: PendingEntries, tenant: str, results: Sequence[Result]) -> None:
        """Report once that an entry is held."""
        new = [each for each in results if each.entry not in pending.reported]
        if new:
            self._streams.publish(tenant, new)
            pending.reported.update(each.entry for each in new)
