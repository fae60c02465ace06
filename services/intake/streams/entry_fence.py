"""What a reader asks around each write: whether the stream is still its own, and whether a removal comes first."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from visual_memory.schemas.errors import BeingRemoved, Unavailable
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.redis_streams.stream_entries import Entry
from visual_memory.services.infrastructure.redis_streams.stream_keys import order

Undrained = Callable[[str], Sequence[str | None]]
"""The positions of a tenant's removals that have not gone through its stream yet; None of one without a position."""


class Refusals(Protocol):
    """What removals took from streams; see `services.removal.refused_intake_entries`."""

    def refused_among(self, tenant: str, entries: Collection[str]) -> set[str]:
        """The positions, of some, of entries that a removal has taken."""

    def covers(self, tenant: str, position: str, image_id: str) -> bool:
        """Whether a removal that an entry at a position is older than covers an image id."""


@dataclass(frozen=True)
class EntryFence:
    """Of entries of one tenant.

    Attributes:
        lease: that the tenant's stream is this reader's.
        entries: which are about to be accepted.
    """

    tenant: str
    leases: Leases
    lease: Lease
    undrained: Undrained
    refused: Refusals
    entries: tuple[Entry, ...] = ()

    def of(self, entries: Iterable[Entry]) -> "EntryFence":
        """The fence of some entries."""
        return replace(self, entries=tuple(entries))

    def held_up(self) -> set[str]:
        """The ids of those that are older than a removal which has yet to look at them."""
        positions = self.undrained(self.tenant)
        if not positions:
            return set()
        if None in positions:
            return {entry.id for entry in self.entries}
        last = max(order(position) for position in positions if position is not None)
        return {entry.id for entry in self.entries if order(entry.position) <= last}

    def check_before(self) -> None:
        """Return if they may be accepted now.

        Raises:
            Superseded: the stream is another reader's, or a removal's.
            BeingRemoved: a removal holds one of them up.
        """
        self.leases.ensure(self.lease)
        if self.held_up():
            raise BeingRemoved("a removal holds it up that has yet to look at what waits")

    def check_after(self) -> None:
        """Return, unless a removal has taken one of them meanwhile: then what was written of it goes.

        Otherwise it stays, whoever has the stream by now: the next reader may have found it, and ended its entry with
        it.

        Raises:
            Superseded: one was taken.
        """
        try:
            with suppress(Unavailable):
                self.leases.ensure(self.lease)
        except Superseded:
            if self.refused.refused_among(self.tenant, {entry.position for entry in self.entries}):
                raise
