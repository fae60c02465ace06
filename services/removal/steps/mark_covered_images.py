"""First step: mark the points that removals cover and record them, before anything is deleted.

The step is serial per tenant. The owner of the tenant's lease processes all waiting removals together, and none of them
deletes before the blocks, marks and records of all are written. So each of several overlapping removals covers every
image that meets its filter, whichever of them marked it: a point carries one mark, and may be recorded by several.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from visual_memory.schemas.errors import InvalidFilter
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter, Not, matches
from visual_memory.schemas.removal import Removal
from visual_memory.services.infrastructure.records.resource_leases import Lease
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import marked_by
from visual_memory.services.removal.blocklist import CONTENT, SUBJECT, VECTOR, Blocklist
from visual_memory.services.removal.covered_image_records import PAGE, VECTORS, CoveredImageRecords, MarkedImage
from visual_memory.services.removal.refused_intake_entries import RefusedEntries
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep

CLOCK_TOLERANCE = timedelta(seconds=2)
"""An image accepted this long after the request may still be covered: the clock of an accepting process and the
database's clock differ by at most half of it. A process that marks too late marks nothing that was accepted since."""


@dataclass(frozen=True)
class MarkCoveredImages:
    """Marks and records the images of all waiting removals of a tenant.

    Attributes:
        lease_duration: the duration of the tenant's lease.
    """

    memory: Memory
    blocklist: Blocklist
    removals: RemovalRecords
    covered: CoveredImageRecords
    refused: RefusedEntries
    lease_duration: timedelta

    def __call__(self, tenant: str) -> bool:
        """Mark and record for all waiting removals; False if another process is doing it.

        Raises:
            Superseded: another process took over.
        """
        with self.removals.leases.held(f"removals:{tenant}", self.lease_duration) as lease:
            if lease is not None:
                self._mark_waiting(tenant, lease)
            return lease is not None

    def waiting(
        self, tenant: str, until: datetime | None = None, connection: Connection | None = None
    ) -> list[RemovalState]:
        """A tenant's removals that wait for this step, except those whose filter is not valid any more.

        Args:
            tenant: the tenant.
            until: only removals requested by then.
            connection: the transaction to query in; None: one of its own.
        """
        running = self.removals.running(tenant, RemovalStep.MARK, until, connection)
        return [each for each in running if self._has_valid_filter(each)]

    def clauses(self, state: RemovalState) -> list[Clause]:
        """The clauses of a removal's filter.

        Raises:
            InvalidFilter: the filter names a metadata field that is not declared any more.
        """
        return (state.removal.filter or Filter({})).clauses(self.memory.metadata, stored=True)

    def named_by_entries(self, state: RemovalState) -> Iterator[list[Clause]]:
        """Filters of the images that a removal covers because intake entries that it took name them."""
        until = state.removal.requested_at + CLOCK_TOLERANCE
        before = Clause("accepted_at", FieldType.DATETIME, bounds={"lte": until})
        for ids in self.refused.image_ids(state.id):
            yield [Clause("image_id", FieldType.KEYWORD, (*ids,)), before]

    def block_subjects(self, connection: Connection, tenant: str, removal: Removal) -> None:
        """Block the subjects that a removal names, if it blocks, in the transaction that records the request.

        An image that replaced a covered one afterwards would have the same subject, but be too new to be marked.
        """
        if removal.block and removal.filter is not None:
            self.blocklist.add(connection, tenant, SUBJECT, _named_subjects(removal.filter), removal.id)

    def clear_stale_marks(self, tenant: str) -> None:
        """Clear marks of removals that are done: a suspended process may set one long afterwards."""
        stale = self.removals.not_running_among(self.memory.marks.count_by_removal(tenant))
        if stale:
            self.memory.marks.clear(tenant, stale)

    def _mark_waiting(self, tenant: str, lease: Lease) -> None:
        waiting = self.waiting(tenant)
        if not waiting:
            return
        self._block_subjects(waiting, lease)
        self.clear_stale_marks(tenant)
        for state in waiting:
            self.removals.leases.renew(lease)
            until = state.removal.requested_at + CLOCK_TOLERANCE
            self.memory.marks.mark(tenant, self.clauses(state), state.id, until)
            for named in self.named_by_entries(state):
                self.memory.marks.mark(tenant, named, state.id, until)
        # a blocked picture must not come back as a vector either
        any_blocks = any(state.removal.block for state in waiting)
        for state in waiting:
            for page in self.memory.images.pages(tenant, [marked_by(state.id)], PAGE):
                digests = self.memory.images.vector_digests(page, with_pictures=any_blocks)
                marked = [MarkedImage.of(each, state.id, digests.get(each.image_id, ())) for each in page]
                self._record(state, marked, lease)
        for state in waiting:
            for others in self._marked_by_others(state):
                self._record(state, others, lease)
        with self.removals.transaction(lease) as connection:
            ids = [state.id for state in waiting]
            self.removals.advance(connection, ids, RemovalStep.MARK, RemovalStep.DELETE, waits_for=None)

    def _block_subjects(self, states: Sequence[RemovalState], lease: Lease) -> None:
        """Block subjects again, for removals that an earlier version recorded."""
        with self.removals.transaction(lease) as connection:
            for state in states:
                self.block_subjects(connection, state.tenant, state.removal)

    def _record(self, state: RemovalState, images: Sequence[MarkedImage], lease: Lease) -> None:
        with self.removals.transaction(lease) as connection:
            self.covered.add(connection, state.tenant, state.id, images)
            if state.removal.block:
                contents = {image.content_hash for image in images}
                self.blocklist.add(connection, state.tenant, CONTENT, contents, state.id)
                vectors = {digest for image in images for digest in image.fields.get(VECTORS, ())}
                self.blocklist.add(connection, state.tenant, VECTOR, vectors, state.id)

    def _marked_by_others(self, state: RemovalState) -> Iterator[list[MarkedImage]]:
        """The images that other removals marked and this one covers too; some may be deleted already."""
        bounds = {"lte": state.removal.requested_at + CLOCK_TOLERANCE}
        clauses = [*self.clauses(state), Clause("accepted_at", FieldType.DATETIME, bounds=bounds)]
        for page in self.covered.pages_of_others(state.tenant, state.id):
            named = self.refused.named_among(state.id, {each.image_id for each in page})
            yield [each for each in page if each.image_id in named or matches(clauses, each.image(state.tenant))]

    def _has_valid_filter(self, state: RemovalState) -> bool:
        try:
            self.clauses(state)
        except InvalidFilter:
            return False
        return True


def _named_subjects(condition: Filter) -> Iterator[str]:
    """The subjects that a filter includes by name."""
    named = condition.root.get("subject", [])
    if not isinstance(named, Not):
        yield from (each for each in (named if isinstance(named, list) else [named]) if isinstance(each, str))
