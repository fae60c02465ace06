"""What a reader was handed of a stream and has not ended."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from visual_memory.services.infrastructure.redis_streams.stream_entries import Entry
from visual_memory.services.intake.streams.parse_entries import ReadableEntry, read

MOST_HELD = 1000
MOST_HELD_BYTES = 64 * 2**20
"""With so many entries in hand no more are read."""


def pause_after(tries: int) -> float:
    """Seconds until an entry is tried again that could not be handled, by itself so many times."""
    return float(4 ** (tries - 1)) if tries else 0.0


@dataclass
class PendingEntries:
    """Of one tenant.

    Attributes:
        entries: by their ids, in their order.
        alone: those that are begun by themselves, because they may have ended a reader or could not be handled; with
            the moment of the monotonic clock from which on they are.
        faults: why they could not be handled, where that is known.
        said: those of which was said that they are held up.
        is_known: whether it is sure that these are all.
        pause: seconds until the next turn, after one that failed.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    is_known: bool = False
    pause: float = 0.0
    _ids: dict[str, frozenset[str]] = field(default_factory=dict)

    def is_all(self, pending: Mapping[str, int], consumer: str) -> bool:
        """Whether nobody else was handed any meanwhile, or took any away."""
        return self.is_known and pending == ({consumer: len(self.entries)} if self.entries else {})

    def replace(self, entries: Iterable[Entry]) -> None:
        """Have these and no others; those that somebody else was handed before may have ended it."""
        there = {entry.id: entry for entry in entries}
        new = there.keys() - self.entries.keys()
        self.drop(self.entries.keys() - there.keys())
        self.alone |= dict.fromkeys(new, 0.0)
        self.entries, self.is_known = there, True

    def add(self, entries: Iterable[Entry]) -> None:
        """Have more, that nobody was handed before."""
        self.entries |= {entry.id: entry for entry in entries}

    def drop(self, entry_ids: Iterable[str]) -> None:
        """Have some no more."""
        for each in [*entry_ids]:
            for held in (self.entries, self.alone, self.faults, self._ids):
                held.pop(each, None)
            self.said.discard(each)

    def fail(self, entry_id: str, reason: str, tries: int) -> None:
        """Note that an entry could not be handled, after so many tries by itself."""
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
        return len(self.entries) >= MOST_HELD or size >= MOST_HELD_BYTES
