"""Forget: from a removal request to its receipt.

The record is durable before anything goes, subjects blocked, and names the step that comes next. Whoever finds it
unfinished resumes it from there; every step may be done twice, and each of its transactions only by whoever owns it:

    mark    mark every point that meets the filter, and write the marked points down, contents blocked: this fixes what
            the removal covers; see `services.removal.mark_covered_images`
    drain   go through what waits in the intake, and take what meets it; see `services.removal.remove_from_intake`
    delete  delete what is noted, as far as it is marked still, then the pictures, and all that was made of them; then
            verify that nothing is left, else mark once more
    seal    let those go first that wait to be marked, for what this one notes may be theirs too; then, in one
            transaction, write it into the log of receipts, and forget filter and notes
    mirror  have the log's entry and the tombstones written to the mirror; only then it is given as the receipt

A late worker gives its vector only to a point that still has the same picture key, so nothing comes back.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from visual_memory.schemas.errors import InvalidFilter, Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.receipt import Event, RemovalPayload, RequestedPayload, Requester
from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.resource_leases import Lease, Superseded
from visual_memory.services.infrastructure.storage.picture_store import Pictures
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.point_filters import marked_by
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import DuplicateEntry, ReceiptLog
from visual_memory.services.removal.covered_images import (
    EVERYTHING,
    CoveredImageRecords,
    CoveredImages,
    MarkedImage,
    RemovalHook,
)
from visual_memory.services.removal.mark_covered_images import MarkCoveredImages
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep, removal_resource
from visual_memory.services.removal.remove_from_intake import RemoveFromIntake

SAMPLE = 10
POLL = 0.05
SLOWEST_POLL = 1.0
MAX_STEPS = 30
"""So many are done at once, where images come in again and again; then it is left for later."""
PATIENCE = 10
"""After so many only those removals are waited for that were asked for before all of this one was gone."""

log = logging.getLogger(__name__)


def _nothing(_connection: Connection, _removal_id: str) -> None:
    pass


@dataclass(frozen=True)
class RemovalSteps:
    """The use case, with the parts that it needs.

    Attributes:
        lease: how long an unfinished removal is left to whoever works on it.
        write_to_mirror: has a tenant's log mirrored up to an entry's number; raises `Unavailable` where that fails.
        before: called once all that is covered is noted, before anything of it goes: a tenant, and the removal's id.
        undo: called once for all that is covered, after its points and pictures are deleted.
        at_end: called in the transaction in which a removal is done: that, a tenant, and the removal's id.
        keep: prolongs a lease while a step is done, however long it takes.
        sleep: waits so many seconds: all waiting goes through it.
    """

    memory: Memory
    pictures: Pictures
    removals: RemovalRecords
    notes: CoveredImageRecords
    mark_and_note: MarkCoveredImages
    drain: RemoveFromIntake
    receipt_log: ReceiptLog
    filter_digests: FilterDigests
    audit: AuditLog
    lease: timedelta
    write_to_mirror: Callable[[str, int], object]
    before: Sequence[Callable[[str, str], object]] = ()
    undo: Sequence[RemovalHook] = ()
    at_end: Sequence[Callable[[Connection, str, str], object]] = ()
    keep: Callable[[Lease], AbstractContextManager[object]] = nullcontext
    sleep: Callable[[float], object] = time.sleep

    def preview(self, tenant: str, request: RemovalRequest) -> RemovalPreview:
        """Count what a removal would cover, and show some of it; changes nothing."""
        clauses = request.filter.clauses(self.memory.metadata)
        by_state = self.memory.images.count_by_state(tenant, clauses)
        sample, _ = self.memory.images.page(tenant, clauses, SAMPLE, None)
        return RemovalPreview(
            images=sum(by_state.values()), by_state=by_state, sample=[image.image_id for image in sample]
        )

    def request(
        self,
        tenant: str,
        request: RemovalRequest,
        requester: Requester,
        record: Callable[[Connection, str], object] = _nothing,
        removal_id: str | None = None,
    ) -> Removal:
        """Make the durable record of a removal; `resume` then does it.

        Args:
            tenant: whose images.
            request: what to remove.
            requester: who asks.
            record: writes down what else there is to say, in the same transaction; given the removal's id.
            removal_id: its id, which nobody else has; None: a new one.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
        """
        request.filter.clauses(self.memory.metadata)
        removal_id = removal_id or str(uuid.uuid4())
        position = self._position(tenant)
        with self.removals.database.write(urgent=True) as connection:
            removal = self.removals.add(connection, tenant, removal_id, request, requester, position)
            self.mark_and_note.block_subjects(connection, tenant, removal)
            record(connection, removal_id)
            self.receipt_log.append(connection, tenant, removal_id, RequestedPayload(**self._asked(removal, requester)))
        return removal

    def resume(self, tenant: str, removal_id: str, patience: timedelta | None = None) -> Removal:
        """Do what is left of a removal, or wait for another who does; returns its record once it is done.

        Args:
            tenant: whose it is.
            removal_id: which.
            patience: how long others are waited for; None: as long as the lease.

        Raises:
            NotFound: there is no such removal.
            InvalidFilter: its filter means nothing any more.
            Unavailable: a part does not answer, or another is still at it; it is resumed by `resume_all` later.
        """
        longest = (self.lease if patience is None else patience).total_seconds()
        state, waited, pause = self.removals.load(tenant, removal_id), 0.0, POLL
        while state.step is not RemovalStep.DONE:
            if not self._is_finished(state):
                if waited >= longest:
                    raise Unavailable("the removal is in the hands of another process: it goes on")
                self.sleep(pause)
                waited, pause = waited + pause, min(2 * pause, SLOWEST_POLL)
            state = self.removals.load(tenant, removal_id)
        return state.removal

    def resume_all(self) -> int:
        """Resume what is not done and nobody works on, and clear the marks of what is; returns how many were done."""
        finished = 0
        for tenant, removal_id in self.removals.abandoned():
            with log_and_continue("removal", removal_id, self.memory.ping):
                finished += self._is_finished(self.removals.load(tenant, removal_id))
        for tenant in self.memory.marks.tenants():
            with log_and_continue("stale marks", tenant, self.memory.ping):
                self.mark_and_note.clear_stale_marks(tenant)
        return finished

    def _is_finished(self, state: RemovalState) -> bool:
        """Go on with a removal to its end; False where others must be waited for."""
        lease = self.removals.leases.take(removal_resource(state.id), self.lease)
        if lease is None:
            return False
        try:
            with self.keep(lease), prometheus_metrics.stage("forget"):
                return self._do(state, lease)
        except (Superseded, DuplicateEntry) as error:
            log.info("removal %s: another goes on with it: %s", state.id, error)
            return False
        except (InvalidFilter, Unavailable) as error:
            with suppress(Unavailable):
                self.removals.say_waiting(state.id, error.message)
            raise
        finally:
            self.removals.leases.release(lease)

    def _do(self, state: RemovalState, lease: Lease) -> bool:
        steps = {
            RemovalStep.MARK: self._mark,
            RemovalStep.DELETE: self._delete,
            RemovalStep.SEAL: self._seal,
            RemovalStep.MIRROR: self._mirror,
        }
        for tries in range(MAX_STEPS):
            state = self.removals.load(state.tenant, state.id)
            if state.step is RemovalStep.DONE:
                return True
            if not steps[state.step](state, lease, tries):
                return False
        return False

    def _mark(self, state: RemovalState, lease: Lease, _tries: int) -> bool:
        self.mark_and_note.clauses(state)
        self.removals.leases.renew(lease)
        return self.mark_and_note(state.tenant)

    def _position(self, tenant: str) -> str | None:
        """Where the intake ends; None where it does not say so: it is noted before anything of it is taken."""
        try:
            return self.drain.intake.position(tenant)
        except Unavailable as error:
            log.info("a removal notes no position of the intake yet: %s", error)
            return None

    def _delete(self, state: RemovalState, lease: Lease, _tries: int) -> bool:
        if not state.drained:
            return self.drain(state.tenant, partial(self.removals.leases.renew, lease))
        for before in self.before:
            before(state.tenant, state.id)
        for page in self._noted(state, lease):
            for removal_id, images in groupby(sorted(page, key=_marked_by), _marked_by):
                self.memory.marks.delete(state.tenant, [image.image_id for image in images], removal_id)
            self.pictures.delete([image.picture for image in page])
        covered = CoveredImages(partial(self._noted, state, lease), state.removal.filter or EVERYTHING)
        for undo in self.undo:
            undo(state.tenant, covered)
        left = self._left(state, lease)
        with self.removals.owned(lease) as connection:
            if left:
                log.info("removal %s: %d images came in meanwhile, they are removed too", state.id, left)
                again = {"round": state.round + 1, "drained": False}
                self.removals.move(connection, [state.id], RemovalStep.DELETE, RemovalStep.MARK, **again)
            else:
                counts, queued = self.notes.count(connection, state.id), self.drain.refused.count(connection, state.id)
                known = {"images": counts.images, "by_state": counts.by_state, "pictures": counts.pictures}
                known |= {"queued": queued}
                verified_at = self.removals.database.moment(connection)
                self.removals.move(
                    connection,
                    [state.id],
                    RemovalStep.DELETE,
                    RemovalStep.SEAL,
                    waits_for=None,
                    verified_at=verified_at,
                    **known,
                )
        return True

    def _left(self, state: RemovalState, lease: Lease) -> int:
        """How many images are there that it covers."""
        before = Clause("accepted_at", FieldType.DATETIME, bounds={"lte": state.removal.requested_at})
        left = self.memory.images.count(state.tenant, [*self.mark_and_note.clauses(state), before])
        left += self.memory.images.count(state.tenant, [marked_by(state.id)])
        for named in self.mark_and_note.named_by_entries(state):
            left += self.memory.images.count(state.tenant, named)
        for page in self._noted(state, lease):
            there = self.memory.images.get(state.tenant, [image.image_id for image in page])
            pictures = {image.picture for image in there.values()}
            left += sum(image.picture in pictures for image in page)
        return left

    def _seal(self, state: RemovalState, lease: Lease, tries: int) -> bool:
        # those that were asked for before all was gone are waited for in any case; so there is an end to it
        until = None if tries < PATIENCE else state.removal.verified_at
        if self.mark_and_note.waiting(state.tenant, until):
            self.removals.leases.renew(lease)
            return self.mark_and_note(state.tenant)
        with suppress(_Awaited):
            self._end(state, lease, until)
        return True

    def _end(self, state: RemovalState, lease: Lease, until: datetime | None) -> None:
        removal = state.removal
        assert removal.verified_at is not None
        payload = RemovalPayload(
            **self._asked(removal, state.requester),
            done_at=removal.verified_at,
            **removal.model_dump(include={"images", "by_state", "pictures", "queued"}),
        )
        with self.removals.owned(lease) as connection:
            self.removals.move(
                connection, [state.id], RemovalStep.SEAL, RemovalStep.MIRROR, waits_for=None, filter=None
            )
            self.notes.delete(connection, state.id)
            self.drain.refused.forget_image_ids(connection, state.id)
            for at_end in self.at_end:
                at_end(connection, state.tenant, state.id)
            who, images = state.requester, removal.images
            self.audit.record(
                connection, state.tenant, who.name, "remove", key=who.key, removal=state.id, images=images
            )
            self.receipt_log.append(connection, state.tenant, state.id, payload)
            # a request appends to the same log, so that none comes in between from here on
            if self.mark_and_note.waiting(state.tenant, until, connection):
                raise _Awaited

    def _mirror(self, state: RemovalState, lease: Lease, _tries: int) -> bool:
        entry = self.receipt_log.find_one(state.tenant, state.id, Event.DONE)
        if entry is None:
            raise Unavailable(
                "the log of receipts does not have it any more: `visual-memory verify-removals` says more"
            )
        self.write_to_mirror(state.tenant, entry.number)
        with self.removals.owned(lease) as connection:
            self.removals.move(
                connection, [state.id], RemovalStep.MIRROR, RemovalStep.DONE, waits_for=None, receipt=entry.text
            )
        prometheus_metrics.REMOVED.labels(state.tenant).inc(state.removal.images)
        return True

    def _noted(self, state: RemovalState, lease: Lease) -> Iterator[list[MarkedImage]]:
        """What is noted; whoever goes through it is at work on the removal."""
        for page in self.notes.pages(state.id):
            self.removals.leases.renew(lease)
            yield page

    def _asked(self, removal: Removal, requester: Requester) -> dict[str, Any]:
        """What the log says of a request."""
        return {
            **removal.model_dump(include={"requested_at", "reason", "block", "everything"}),
            "requested_by": requester,
            "filter_digest": self.filter_digests.of(removal.id, removal.filter or EVERYTHING),
        }


class _Awaited(Exception):
    """Another removal waits to be marked, and may need what this one has noted."""


def _marked_by(image: MarkedImage) -> str:
    return image.marked_by
