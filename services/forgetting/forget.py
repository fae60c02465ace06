"""Forget: from a removal request to its receipt.

The record is durable before anything goes, and names the step that comes next. Whoever finds it unfinished carries on
from there; every step may be done twice:

    mark    block the subjects, then mark every point that meets the filter, in one operation of the engine:
            this fixes what the removal covers
    note    write down the marked points (id, state, content, picture) beside the record; block their contents
    delete  delete the marked points, in one operation; then their pictures, and all that was made of them; then verify
            that nothing is left
    seal    write it into the removal log, and the signed entry into the receipt

A late worker gives its vector only to a point that still has the same picture key, so nothing comes back.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from schemas.errors import NotFound
from schemas.filter import Clause, FieldType, Filter
from schemas.image import now
from schemas.removal import Event, Removal, RemovalPreview, RemovalRequest, RemovalStatus
from services.forgetting.blocks import Blocks
from services.forgetting.covered_images import CoveredImages, Note, RemovalHook
from services.forgetting.removal_log import RemovalLog
from services.forgetting.removals import Journal, Removals, Step
from services.memory.memory import Memory
from services.memory.payload import has_picture
from services.memory.pictures import Pictures
from services.runtime import metrics
from services.runtime.duties import isolated

PAGE = 1000
SAMPLE = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forget:
    """The use case, with the parts that it needs.

    Attributes:
        lease: how long an unfinished removal is left to whoever works on it.
        undo: called once for all that is covered, after its points and pictures are deleted.
    """

    memory: Memory
    pictures: Pictures
    blocks: Blocks
    removals: Removals
    removal_log: RemovalLog
    lease: timedelta
    undo: Sequence[RemovalHook] = ()

    def preview(self, tenant: str, request: RemovalRequest) -> RemovalPreview:
        """Count what a removal would cover, and show some of it; changes nothing."""
        clauses = request.filter.clauses(self.memory.metadata)
        by_state = self.memory.counts_by_state(tenant, clauses)
        sample, _ = self.memory.page(tenant, clauses, SAMPLE, None)
        return RemovalPreview(
            images=sum(by_state.values()), by_state=by_state, sample=[image.image_id for image in sample]
        )

    def request(self, tenant: str, request: RemovalRequest, requested_by: str) -> Removal:
        """Make the durable record of a removal; `carry_on` then does it.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
        """
        request.filter.clauses(self.memory.metadata)
        removal = Removal(
            id=str(uuid.uuid4()),
            **request.model_dump(exclude={"dry_run"}),
            requested_by=requested_by,
            requested_at=now(),
        )
        self.removals.touch(tenant, removal.id)
        self.removals.save(Journal(removal=removal, tenant=tenant))
        return removal

    def carry_on(self, tenant: str, removal_id: str) -> Removal:
        """Do what is left of a removal; returns its receipt.

        Raises:
            NotFound: there is no such removal.
            Unavailable: a part does not answer; the removal is carried on by `carry_on_all` later.
        """
        journal = self.removals.load(tenant, removal_id)
        steps = {Step.MARK: self._mark, Step.NOTE: self._note, Step.DELETE: self._delete, Step.SEAL: self._seal}
        with metrics.stage("forget"):
            while journal.step is not Step.NOTHING:
                self.removals.touch(tenant, removal_id)
                journal = steps[journal.step](journal)
                self.removals.save(journal)
        self.removals.close(tenant, removal_id)
        return journal.removal

    def carry_on_all(self) -> int:
        """Carry on what nobody has worked on for the length of the lease; returns how many were finished."""
        finished = 0
        for tenant, removal_id in self.removals.abandoned(self.lease):
            with isolated("removal", removal_id, self.memory.ping):
                finished += self._is_carried_on(tenant, removal_id)
        return finished

    def _is_carried_on(self, tenant: str, removal_id: str) -> bool:
        try:
            self.removals.load(tenant, removal_id)
        except NotFound:  # the record was never written, so nobody was promised anything
            self.removals.close(tenant, removal_id)
            return False
        self.carry_on(tenant, removal_id)
        return True

    def _mark(self, journal: Journal) -> Journal:
        removal = journal.removal
        self.removal_log.append(journal.tenant, Event.REQUESTED, removal)
        if removal.block:
            self.blocks.block_subjects(journal.tenant, _subjects(removal.filter), removal.id)
        self.memory.mark(journal.tenant, self._clauses(journal), removal.id)
        return journal.model_copy(update={"step": Step.NOTE})

    def _note(self, journal: Journal) -> Journal:
        removal = journal.removal
        by_state, pictures = Counter(removal.by_state), removal.pictures
        for page in self.removals.note(journal, self._marked(journal)):
            by_state.update(note.state for note in page)
            pictures += sum(has_picture(note.picture) for note in page)
            if removal.block:
                self.blocks.block_contents(journal.tenant, {note.content_hash for note in page}, removal.id)
            self.removals.touch(journal.tenant, removal.id)
        counts = {"images": by_state.total(), "by_state": dict(by_state), "pictures": pictures}
        counted = removal.model_copy(update=counts)
        return journal.model_copy(update={"removal": counted, "step": Step.DELETE})

    def _delete(self, journal: Journal) -> Journal:
        removal, tenant = journal.removal, journal.tenant
        self.memory.delete_marked(tenant, removal.id)
        covered = CoveredImages(partial(self._noted, journal))
        for page in covered:
            self.pictures.delete([note.picture for note in page])
        if covered:
            for undo in self.undo:
                undo(tenant, covered)
        before = Clause("accepted_at", FieldType.DATETIME, bounds={"lte": removal.requested_at})
        left = self.memory.count(tenant, [*self._clauses(journal), before])
        if left or self.memory.count(tenant, [], marked_by=removal.id):
            log.info("removal %s: %d images came in meanwhile, they are removed too", removal.id, left)
            return journal.model_copy(update={"step": Step.MARK, "turn": journal.turn + 1})
        metrics.REMOVED.labels(tenant).inc(removal.images)
        done = {"status": RemovalStatus.DONE, "verified_at": now()}
        return journal.model_copy(update={"removal": removal.model_copy(update=done), "step": Step.SEAL})

    def _seal(self, journal: Journal) -> Journal:
        removal, tenant = journal.removal, journal.tenant
        self.removals.expect_erasure(tenant, removal.id)
        sealed = removal.model_copy(update={"seal": self.removal_log.append(tenant, Event.DONE, removal)})
        return journal.model_copy(update={"removal": sealed, "step": Step.NOTHING})

    def _marked(self, journal: Journal) -> Iterator[list[Note]]:
        for page in self.memory.pages(journal.tenant, [], PAGE, marked_by=journal.removal.id):
            yield [Note.model_validate(image, from_attributes=True) for image in page]

    def _noted(self, journal: Journal) -> Iterator[list[Note]]:
        """What was noted; whoever goes through it is at work on the removal."""
        for page in self.removals.notes(journal):
            self.removals.touch(journal.tenant, journal.removal.id)
            yield page

    def _clauses(self, journal: Journal) -> list[Clause]:
        return journal.removal.filter.clauses(self.memory.metadata, stored=True)


def _subjects(condition: Filter) -> Iterator[str]:
    """The subjects that a filter names outright."""
    named = condition.root.get("subject", [])
    yield from (subject for subject in (named if isinstance(named, list) else [named]) if isinstance(subject, str))
