"""Second step: drain the intake, that is, remove the waiting entries that a removal covers.

The step comes after the marks, and owns the lease under which entries are accepted, so that no entry is half accepted
meanwhile. Until it is done, no entry older than the removal is accepted. It removes every entry that meets the filter,
and every entry that names a covered image unless a field that the entry gives excludes the image from the filter: the
entry would take the fields that it omits from the covered image. Each removed entry may make the removal cover others,
so the step repeats until it removes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from visual_memory.schemas.errors import InvalidFilter
from visual_memory.schemas.filter import Clause
from visual_memory.services.infrastructure.records.resource_leases import Lease
from visual_memory.services.removal.blocklist import CONTENT, VECTOR, Blocklist
from visual_memory.services.removal.covered_image_records import EVERYTHING, CoveredImageRecords
from visual_memory.services.removal.covered_intake_entries import covered_entries
from visual_memory.services.removal.intake_contract import (
    CoveredIds,
    IntakeQueue,
    QueuedEntry,
    intake_resource,
)
from visual_memory.services.removal.refused_intake_entries import (
    RefusedEntries,
    RefusedEntry,
    is_at_or_before,
    latest_position,
)
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep
from visual_memory.services.removal.steps.mark_covered_images import MarkCoveredImages

MAX_ROUNDS = 100
"""More than the entries that name each other in a chain."""


@dataclass(frozen=True)
class RemoveFromIntake:
    """Removes the waiting entries that a tenant's removals cover.

    Attributes:
        lease_duration: the duration of the lease of the tenant's intake.
    """

    intake: IntakeQueue
    removals: RemovalRecords
    covered: CoveredImageRecords
    refused: RefusedEntries
    blocklist: Blocklist
    mark: MarkCoveredImages
    lease_duration: timedelta

    def __call__(self, tenant: str, heartbeat: Callable[[], object]) -> bool:
        """Drain the intake for all marked removals of a tenant; False if another process reads the intake.

        Args:
            tenant: the tenant.
            heartbeat: called repeatedly; raises if another process took over the removal.

        Raises:
            Superseded: another process reads the intake.
            Unavailable: the intake does not answer.
        """
        with self.removals.leases.held(intake_resource(tenant), self.lease_duration) as lease:
            if lease is not None:
                self._drain(tenant, lease, heartbeat)
            return lease is not None

    def _drain(self, tenant: str, lease: Lease, heartbeat: Callable[[], object]) -> None:
        self._set_positions(tenant, lease)
        undrained = self._draining(self.removals.undrained(tenant))
        marked = [each for each in undrained if each.state.step is RemovalStep.DELETE]
        if not marked:
            return
        position = latest_position([each.position for each in marked])
        for _ in range(MAX_ROUNDS):
            removed = 0
            for page in self.intake.up_to(tenant, position):
                heartbeat()
                self.removals.leases.renew(lease)
                removed += self._remove_covered(tenant, page, lease)
            if not removed:
                break
        for each in marked:
            heartbeat()
            self.intake.remove_results(tenant, each.position, each.covered)
        with self.removals.transaction(lease) as connection:
            self.removals.set_drained(connection, [each.state.id for each in marked])

    def _set_positions(self, tenant: str, lease: Lease) -> None:
        """Record the intake's last position for removals without one; a later position than at the request is safe."""
        unknown = [state for state in self.removals.undrained(tenant) if state.position is None]
        if unknown:
            position = self.intake.last_position(tenant)
            with self.removals.transaction(lease) as connection:
                for state in unknown:
                    self.removals.set_position(connection, state.id, position)

    def _draining(self, states: Iterable[RemovalState]) -> list["_DrainingRemoval"]:
        """The removals that can drain the intake, also those that have yet to mark: they count what they cover."""
        found = []
        for state in states:
            if state.position is not None:
                with suppress(InvalidFilter):  # it waits until its fields are declared again
                    clauses = self.mark.clauses(state)
                    found.append(_DrainingRemoval(state, state.position, clauses, self._covered_by(state.id)))
        return found

    def _covered_by(self, removal_id: str) -> CoveredIds:
        return lambda ids: self.covered.covered_among(removal_id, ids) | self.refused.named_among(removal_id, ids)

    def _remove_covered(self, tenant: str, page: Sequence[QueuedEntry], lease: Lease) -> int:
        """Record the covered entries of a page, then remove them; returns their number."""
        while True:
            states = self.removals.undrained(tenant)
            covered = [(each, each.covered_entries(page)) for each in self._draining(states)]
            entries = {entry.key: entry for _, some in covered for entry in some}
            if not entries:
                return 0
            with self.removals.transaction(lease) as connection:
                known = {state.id for state in states}
                if {state.id for state in self.removals.undrained(tenant, connection)} <= known:
                    for each, some in covered:
                        self._record(connection, each.state, some)
                    break  # otherwise a removal was requested meanwhile, and may cover some of them too
        self.intake.remove(tenant, [*entries.values()])
        return len(entries)

    def _record(self, connection: Connection, state: RemovalState, entries: Sequence[QueuedEntry]) -> None:
        tenant, rows = state.tenant, [RefusedEntry(each.name or each.position, each.image_id) for each in entries]
        self.refused.add(connection, tenant, state.id, rows)
        if state.removal.block:
            images = [each.image for entry in entries for each in entry.images]
            contents = {each.content_hash for each in images if each.content_hash}
            self.blocklist.add(connection, tenant, CONTENT, contents, state.id)
            vectors = {digest for each in images for digest in each.vector_digests}
            self.blocklist.add(connection, tenant, VECTOR, vectors, state.id)


@dataclass(frozen=True)
class _DrainingRemoval:
    """A removal that drains the intake.

    Attributes:
        covered: returns those of some image ids that it covers, in the memory or the intake.
    """

    state: RemovalState
    position: str
    clauses: Sequence[Clause]
    covered: CoveredIds

    def covered_entries(self, page: Sequence[QueuedEntry]) -> list[QueuedEntry]:
        """The entries of a page that the removal covers."""
        older = [entry for entry in page if is_at_or_before(entry.position, self.position)]
        return covered_entries(self.state.removal.filter or EVERYTHING, self.clauses, self.covered, older)
