"""Mark and note: what a removal covers is fixed, and written down, before anything of it goes.

This is serial in a tenant. Whoever holds the tenant's lease takes all removals that wait for it, as a cohort, and none
of them deletes before the blocks, marks and notes of all are there. So of removals that overlap each covers what meets
its filter, whichever of them marked it: a point has one mark, and may stand in several notes.
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
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.point_filters import marked_by
from visual_memory.services.removal.blocklist import CONTENT, SUBJECT, VECTOR, Blocklist
from visual_memory.services.removal.covered_images import PAGE, VECTORS, CoveredImageRecords, MarkedImage
from visual_memory.services.removal.refused_intake_entries import RefusedEntries
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep

CLOCKS = timedelta(seconds=2)
"""What a sender accepted so long after a removal was asked for may be covered still: the clock of an accepting process
is within half of it of the database's. A process that marks later than it should marks nothing that came since."""


@dataclass(frozen=True)
class MarkCoveredImages:
    """The first step of removals, with the parts that it needs.

    Attributes:
        lease: how long the tenant is left to whoever is at it.
    """

    memory: Memory
    blocks: Blocklist
    removals: RemovalRecords
    notes: CoveredImageRecords
    refused: RefusedEntries
    lease: timedelta

    def __call__(self, tenant: str) -> bool:
        """Mark and note all that wait for it; False where another is at it.

        Raises:
            Superseded: another took over meanwhile.
        """
        with self.removals.leases.held(f"removals:{tenant}", self.lease) as lease:
            if lease is not None:
                self._take(tenant, lease)
            return lease is not None

    def waiting(
        self, tenant: str, until: datetime | None = None, connection: Connection | None = None
    ) -> list[RemovalState]:
        """The removals of a tenant that wait for it, but for those whose filter means nothing any more.

        Args:
            tenant: whose.
            until: only those that were asked for by then.
            connection: of a transaction that it is asked in.
        """
        return [
            each
            for each in self.removals.running(tenant, RemovalStep.MARK, until, connection)
            if self._can_be_met(each)
        ]

    def clauses(self, state: RemovalState) -> list[Clause]:
        """The filter of a removal.

        Raises:
            InvalidFilter: it names a metadata field that is not declared any more.
        """
        return (state.removal.filter or Filter({})).clauses(self.memory.metadata, stored=True)

    def named_by_entries(self, state: RemovalState) -> Iterator[list[Clause]]:
        """Filters of the images that a removal covers because entries name them which it took from the intake."""
        before = Clause("accepted_at", FieldType.DATETIME, bounds={"lte": state.removal.requested_at + CLOCKS})
        for ids in self.refused.image_ids(state.id):
            yield [Clause("image_id", FieldType.KEYWORD, (*ids,)), before]

    def block_subjects(self, connection: Connection, tenant: str, removal: Removal) -> None:
        """Refuse the subjects that a removal names, if it blocks, as part of the transaction that records it.

        What replaces one of its images from then on would have its subject, and be accepted too late for its mark.
        """
        if removal.block and removal.filter is not None:
            self.blocks.add(connection, tenant, SUBJECT, _subjects(removal.filter), removal.id)

    def clear_stale_marks(self, tenant: str) -> None:
        """Take away the marks of removals that are done: who stood still may mark for one long after."""
        stale = self.removals.done_among(self.memory.marks.count_by_removal(tenant))
        if stale:
            self.memory.marks.clear(tenant, stale)

    def _take(self, tenant: str, lease: Lease) -> None:
        cohort = self.waiting(tenant)
        if not cohort:
            return
        self._block_subjects(cohort, lease)
        self.clear_stale_marks(tenant)
        for state in cohort:
            self.removals.leases.renew(lease)
            until = state.removal.requested_at + CLOCKS
            self.memory.marks.mark(tenant, self.clauses(state), state.id, until)
            for named in self.named_by_entries(state):
                self.memory.marks.mark(tenant, named, state.id, until)
        # with a block a picture may not come back as its vector, either
        blocks = any(state.removal.block for state in cohort)
        for state in cohort:
            for page in self.memory.images.pages(tenant, [marked_by(state.id)], PAGE):
                digests = self.memory.images.vector_digests(page, with_pictures=blocks)
                self._note(
                    state, [MarkedImage.of(each, state.id, digests.get(each.image_id, ())) for each in page], lease
                )
        for state in cohort:
            for theirs in self._marked_by_others(state):
                self._note(state, theirs, lease)
        with self.removals.owned(lease) as connection:
            self.removals.move(
                connection, [state.id for state in cohort], RemovalStep.MARK, RemovalStep.DELETE, waits_for=None
            )

    def _block_subjects(self, cohort: Sequence[RemovalState], lease: Lease) -> None:
        """Again, for those that an earlier version recorded."""
        with self.removals.owned(lease) as connection:
            for state in cohort:
                self.block_subjects(connection, state.tenant, state.removal)

    def _note(self, state: RemovalState, images: Sequence[MarkedImage], lease: Lease) -> None:
        with self.removals.owned(lease) as connection:
            self.notes.add(connection, state.tenant, state.id, images)
            if state.removal.block:
                contents = {image.content_hash for image in images}
                self.blocks.add(connection, state.tenant, CONTENT, contents, state.id)
                vectors = {digest for image in images for digest in image.fields.get(VECTORS, ())}
                self.blocks.add(connection, state.tenant, VECTOR, vectors, state.id)

    def _marked_by_others(self, state: RemovalState) -> Iterator[list[MarkedImage]]:
        """What other removals have in their hands, and what this one is about too; some of it may be gone by now."""
        bounds = {"lte": state.removal.requested_at + CLOCKS}
        clauses = [*self.clauses(state), Clause("accepted_at", FieldType.DATETIME, bounds=bounds)]
        for page in self.notes.pages_of_others(state.tenant, state.id):
            named = self.refused.naming(state.id, {each.image_id for each in page})
            yield [each for each in page if each.image_id in named or matches(clauses, each.image(state.tenant))]

    def _can_be_met(self, state: RemovalState) -> bool:
        try:
            self.clauses(state)
        except InvalidFilter:
            return False
        return True


def _subjects(condition: Filter) -> Iterator[str]:
    """The subjects that a filter names outright."""
    named = condition.root.get("subject", [])
    if not isinstance(named, Not):
        yield from (each for each in (named if isinstance(named, list) else [named]) if isinstance(each, str))
