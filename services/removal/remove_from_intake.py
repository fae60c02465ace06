"""Drain: a removal goes through what waits in the intake, and takes what meets it.

It comes after the marks and notes, and holds the lease under which entries are accepted, so that none is half accepted
meanwhile. Until it is done, nothing that is older than the removal is accepted. It takes an entry that meets the
filter, and one that names an image which the removal covers and says nothing that would keep it away: what it leaves
out it would have had from there. So each entry that is taken may let others be, and all is gone through until none is.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from visual_memory.schemas.errors import InvalidFilter
from visual_memory.schemas.filter import Clause, matches
from visual_memory.services.infrastructure.records.resource_leases import Lease
from visual_memory.services.removal.blocklist import CONTENT, VECTOR, Blocklist
from visual_memory.services.removal.covered_images import EVERYTHING, CoveredImageRecords
from visual_memory.services.removal.intake_contract import (
    CoveredIds,
    IntakeQueue,
    QueuedEntry,
    QueuedImage,
    intake_resource,
)
from visual_memory.services.removal.mark_covered_images import MarkCoveredImages
from visual_memory.services.removal.refused_intake_entries import (
    RefusedEntries,
    RefusedEntry,
    is_at_or_before,
    latest_position,
)
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep
from visual_memory.services.removal.values_named_in_filters import may_cover_text

TRIES = 100
"""More rounds than there are images that name each other."""


@dataclass(frozen=True)
class RemoveFromIntake:
    """The step of removals, with the parts that it needs.

    Attributes:
        lease: how long the tenant's intake is left to whoever is at it.
    """

    intake: IntakeQueue
    removals: RemovalRecords
    notes: CoveredImageRecords
    refused: RefusedEntries
    blocks: Blocklist
    mark_and_note: MarkCoveredImages
    lease: timedelta

    def __call__(self, tenant: str, at_work: Callable[[], object]) -> bool:
        """Let all removals of a tenant that have marked go through its intake; False where another reads there.

        Args:
            tenant: whose.
            at_work: called again and again; raises where another has taken over.

        Raises:
            Superseded: another reads the intake meanwhile.
            Unavailable: the intake does not answer.
        """
        with self.removals.leases.held(intake_resource(tenant), self.lease) as lease:
            if lease is not None:
                self._drain(tenant, lease, at_work)
            return lease is not None

    def _drain(self, tenant: str, lease: Lease, at_work: Callable[[], object]) -> None:
        self._note_positions(tenant, lease)
        marked = [
            each for each in self._cohort(self.removals.to_drain(tenant)) if each.state.step is RemovalStep.DELETE
        ]
        if not marked:
            return
        position = latest_position([each.position for each in marked])
        for _ in range(TRIES):
            taken = 0
            for page in self.intake.older(tenant, position):
                at_work()
                self.removals.leases.renew(lease)
                taken += self._take(tenant, page, lease)
            if not taken:
                break
        for each in marked:
            at_work()
            self.intake.take_results(tenant, each.position, each.covered)
        with self.removals.owned(lease) as connection:
            self.removals.say_drained(connection, [each.state.id for each in marked])

    def _note_positions(self, tenant: str, lease: Lease) -> None:
        """Note where the intake ends for those that could not when they were asked for: later is safe."""
        unknown = [state for state in self.removals.to_drain(tenant) if state.position is None]
        if unknown:
            position = self.intake.position(tenant)
            with self.removals.owned(lease) as connection:
                for state in unknown:
                    self.removals.note_position(connection, state.id, position)

    def _cohort(self, states: Iterable[RemovalState]) -> list["_Draining"]:
        """Those that can go through it; also those that have yet to mark, for they count what they meet."""
        found = []
        for state in states:
            if state.position is not None:
                with suppress(InvalidFilter):  # it waits for its fields to be declared again
                    clauses = self.mark_and_note.clauses(state)
                    found.append(_Draining(state, state.position, clauses, self._covered(state.id)))
        return found

    def _covered(self, removal_id: str) -> CoveredIds:
        return lambda ids: self.notes.naming(removal_id, ids) | self.refused.naming(removal_id, ids)

    def _take(self, tenant: str, page: Sequence[QueuedEntry], lease: Lease) -> int:
        """Take what meets a removal, written down before it leaves; returns how many left."""
        while True:
            states = self.removals.to_drain(tenant)
            cohort = self._cohort(states)
            met = [(each, each.meeting(page)) for each in cohort]
            taken = {entry.place: entry for _, entries in met for entry in entries}
            if not taken:
                return 0
            with self.removals.owned(lease) as connection:
                known = {state.id for state in states}
                if {state.id for state in self.removals.to_drain(tenant, connection)} <= known:
                    for each, entries in met:
                        self._write_down(connection, each.state, entries)
                    break  # else one was asked for meanwhile, and may count some of them too
        self.intake.take(tenant, [*taken.values()])
        return len(taken)

    def _write_down(self, connection: Connection, state: RemovalState, entries: Sequence[QueuedEntry]) -> None:
        tenant, rows = state.tenant, [RefusedEntry(each.name or each.position, each.image_id) for each in entries]
        self.refused.add(connection, tenant, state.id, rows)
        if state.removal.block:
            images = [each.image for entry in entries for each in entry.images]
            contents = {each.content_hash for each in images if each.content_hash}
            self.blocks.add(connection, tenant, CONTENT, contents, state.id)
            vectors = {digest for each in images for digest in each.vector_digests}
            self.blocks.add(connection, tenant, VECTOR, vectors, state.id)


@dataclass(frozen=True)
class _Draining:
    """A removal that goes through the intake.

    Attributes:
        covered: those of some image ids that it covers, in the memory or the intake.
    """

    state: RemovalState
    position: str
    clauses: Sequence[Clause]
    covered: CoveredIds

    def meeting(self, page: Sequence[QueuedEntry]) -> list[QueuedEntry]:
        """The entries of a page that it takes."""
        older = [entry for entry in page if is_at_or_before(entry.position, self.position)]
        images = (each.image for entry in older for each in entry.images)
        covered = self.covered({image.image_id for image in images if image.image_id})
        return [entry for entry in older if self._takes(entry, covered)]

    def _takes(self, entry: QueuedEntry, covered: Collection[str]) -> bool:
        if entry.text is not None:
            return may_cover_text(self.state.removal.filter or EVERYTHING, entry.text)
        return any(
            matches(self.clauses, each.image)
            or (each.image.image_id in covered and not any(_says_otherwise(each, clause) for clause in self.clauses))
            for each in entry.images
        )


def _says_otherwise(queued: QueuedImage, clause: Clause) -> bool:
    """Whether what is said of an image keeps it away from a condition, whatever it would have had from before."""
    return clause.field.partition(".")[0] in queued.said and not matches([clause], queued.image)
