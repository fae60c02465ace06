"""The entries that were delivered to a reader and have not ended."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Entry
from visual_memory.services.intake.streams.parse_entries import ReadableEntry, read

MAX_PENDING = 1000
MAX_PENDING_BYTES = 64 * 2**20
"""No more entries are read while this many, or bytes of them, are pending."""


def pause_after(tries: int) -> float:
    """Seconds until an entry is tried again that failed on its own so many times."""
    return float(4 ** (tries - 1)) if tries else 0.0


@dataclass
class PendingEntries:
    """The pending entries of one tenant.

    Attributes:
        entries: by their ids, in order.
        alone: entries that are processed on their own, because they may have crashed a reader or failed; with the
            earliest time for that, by the monotonic clock.
        faults: why entries failed, if that is known.
        reported: entries that were reported as held.
        is_known: whether these are certainly all.
        pause: seconds until the next round, after a failed one.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    is_known: bool = False
    pause: float = 0.0
    _ids: dict[str, frozenset[str]] = field(default_factory=dict)

    def is_all(self, pending: Mapping[str, int], consumer: str) -> bool:
        """Whether no other consumer has read or claimed entries meanwhile."""
        return self.is_known and pending == ({consumer: len(self.entries)} if self.entries else {})

    def replace(self, entries: Iterable[Entry]) -> None:
        """Replace the entries; those that came from another consumer may have crashed it."""
        there = {entry.id: entry for entry in entries}
        new = there.keys() - self.entries.keys()
        self.drop(self.entries.keys() - there.keys())
        self.alone |= dict.fromkeys(new, 0.0)
        self.entries, self.is_known = there, True

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries that were delivered to no consumer before."""
        self.entries |= {entry.id: entry for entry in entries}

    def drop(self, entry_ids: Iterable[str]) -> None:
        """Drop some entries."""
        for each in [*entry_ids]:
            for held in (self.entries, self.alone, self.faults, self._ids):
                held.pop(each, None)
            self.reported.discard(each)

    def fail(self, entry_id: str, reason: str, tries: int) -> None:
        """Record that an entry failed, after so many tries on its own."""
        self.faults[entry_id] = reason
        self.alone[entry_id] = time.monotonic() + pause_after(tries)

    def waits(self, entry_id: str) -> bool:
        """Whether an entry is not to be tried again yet."""
        return self.alone.get(entry_id, 0.0) > time.monotonic()

    def image_ids(self, entry_id: str) -> frozenset[str]:
        """The ids of an entry's images, as far as they are known."""
        if entry_id not in self._ids:
            found = read(self.entries[entry_id])
            self._ids[entry_id] = found.ids if isinstance(found, ReadableEntry) else frozenset()
        return self._ids[entry_id]

    @property
    def is_full(self) -> bool:
        """Whether no more may be read."""
        size = sum(len(entry.event) for entry in self.entries.values())
        return len(self.entries) >= MAX_PENDING or size >= MAX_PENDING_BYTES
