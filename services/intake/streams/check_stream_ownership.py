"""The fence of entries: before and after each write, check the reader's lease, and whether a removal comes first."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from visual_memory.schemas.errors import BeingRemoved, Unavailable
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Entry
from visual_memory.services.infrastructure.redis_streams.stream_keys import order

Undrained = Callable[[str], Sequence[str | None]]
"""The positions of a tenant's removals that have not searched its stream yet; None for one without a position."""


class Refusals(Protocol):
    """The entries that removals deleted from streams; see `services.removal.refused_intake_entries`."""

    def refused_among(self, tenant: str, entries: Collection[str]) -> set[str]:
        """Those of some positions whose entries a removal has deleted."""

    def covers(self, tenant: str, position: str, image_id: str) -> bool:
        """Whether a removal that is later than an entry's position covers an image id."""


@dataclass(frozen=True)
class EntryFence:
    """The fence of entries of one tenant.

    Attributes:
        lease: this reader's lease on the tenant's stream.
        entries: the entries that are about to be accepted.
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
        """The ids of entries that are older than a removal which has not searched the stream yet."""
        positions = self.undrained(self.tenant)
        if not positions:
            return set()
        if None in positions:
            return {entry.id for entry in self.entries}
        last = max(order(position) for position in positions if position is not None)
        return {entry.id for entry in self.entries if order(entry.position) <= last}

    def check_before(self) -> None:
        """Return if the entries may be accepted now.

        Raises:
            Superseded: another reader or a removal has the lease.
            BeingRemoved: one of them is older than a removal which has not searched the stream yet.
        """
        self.leases.ensure(self.lease)
        if self.held_up():
            raise BeingRemoved("a removal must search the stream first")

    def check_after(self) -> None:
        """Return, unless a removal has deleted one of the entries meanwhile: then the write is reverted.

        Otherwise the write stays, even if the lease is lost: the next reader may have found the images and ended their
        entries.

        Raises:
            Superseded: a removal has deleted one of the entries.
        """
        try:
            with suppress(Unavailable):
                self.leases.ensure(self.lease)
        except Superseded:
            if self.refused.refused_among(self.tenant, {entry.position for entry in self.entries}):
                raise
