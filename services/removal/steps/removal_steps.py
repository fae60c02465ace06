"""Remove images, from the request to the receipt, in steps that any process can resume.

The record of a removal is committed, with its subjects blocked, before anything is deleted. It names the next step. Any
process that finds an unfinished removal resumes it there. Every step can be repeated, and each of its transactions is
valid only for the owner of the removal's lease:

    mark    mark every point that meets the filter, record the marked points, block contents: this determines what the
            removal covers; see `services.removal.steps.mark_covered_images`
    drain   remove the covered entries from the intake; see `services.removal.steps.remove_from_intake`
    delete  delete the recorded points that still carry the mark, their pictures, and everything derived from them; then
            verify that nothing is left, otherwise mark again
    seal    let waiting removals mark first, because they may cover the same images; then, in one transaction, append
            to the log of receipts, and delete the filter and the records of covered images
    mirror  have the log's entry and the tombstones written to the mirror, then issue the entry as the receipt

A slow worker stores its vector only if the point still has the same picture key, so no removed image comes back.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import groupby

from visual_memory.schemas.errors import InvalidFilter, Unavailable
from visual_memory.schemas.removal import Removal
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.resource_leases import Lease, Superseded
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.receipts.receipt_log import DuplicateEntry
from visual_memory.services.removal.covered_image_records import (
    EVERYTHING,
    CoveredImage,
    CoveredImageRecords,
    CoveredImages,
    MarkedImage,
    RemovalHook,
)
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep, removal_resource
from visual_memory.services.removal.request_removal import RequestRemoval
from visual_memory.services.removal.steps.mark_covered_images import MarkCoveredImages
from visual_memory.services.removal.steps.remove_from_intake import RemoveFromIntake
from visual_memory.services.removal.steps.seal_receipt import SealReceipt
from visual_memory.services.removal.steps.verify_nothing_left import CountRemaining

POLL = 0.05
SLOWEST_POLL = 1.0
PROGRESS_SECONDS = 1.0
"""Shortest interval between two writes of progress."""
MAX_STEPS = 30
"""Steps of one call: if images keep coming in, the rest is left for a later call."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemovalSteps:
    """Runs the steps of requested removals.

    Attributes:
        request: records a removal.
        lease_duration: how long an unfinished removal belongs to the process that works on it.
        before_delete: called with the tenant and the removal's id after everything covered is recorded, before
            anything is deleted.
        hooks: called with everything that is covered, after its points and pictures are deleted.
        count_derived: count what is left of what the hooks delete, for the images of a page.
        keep: renews a lease during a step, however long it takes.
        sleep: waits a number of seconds.
    """

    request: RequestRemoval
    memory: Memory
    pictures: PictureStore
    removals: RemovalRecords
    covered: CoveredImageRecords
    mark: MarkCoveredImages
    remove_from_intake: RemoveFromIntake
    seal: SealReceipt
    lease_duration: timedelta
    before_delete: Sequence[Callable[[str, str], object]] = ()
    hooks: Sequence[RemovalHook] = ()
    count_derived: Sequence[Callable[[str, Sequence[CoveredImage]], int]] = ()
    keep: Callable[[Lease], AbstractContextManager[object]] = nullcontext
    sleep: Callable[[float], object] = time.sleep

    def resume(self, tenant: str, removal_id: str, timeout: timedelta | None = None) -> Removal:
        """Run what is left of a removal, or wait for the process that runs it; returns its record when it is done.

        Args:
            tenant: the tenant.
            removal_id: the removal.
            timeout: how long to wait for other processes; None: the duration of a lease.

        Raises:
            NotFound: there is no such removal.
            InvalidFilter: its filter is not valid any more.
            Unavailable: a component does not answer, or another process still runs it; `resume_all` resumes it later.
        """
        longest = (self.lease_duration if timeout is None else timeout).total_seconds()
        state, waited, pause = self.removals.load(tenant, removal_id), 0.0, POLL
        while state.step is not RemovalStep.DONE:
            if not self._run(state):
                if waited >= longest:
                    raise Unavailable("another process runs the removal, and will finish it")
                self.sleep(pause)
                waited, pause = waited + pause, min(2 * pause, SLOWEST_POLL)
            state = self.removals.load(tenant, removal_id)
        return state.removal

    def resume_all(self) -> int:
        """Resume abandoned removals, and clear the marks of finished ones; returns how many removals it finished."""
        finished = 0
        for tenant, removal_id in self.removals.abandoned():
            with log_and_continue("removal", removal_id, self.memory.ping):
                finished += self._run(self.removals.load(tenant, removal_id))
        for tenant in self.memory.marks.tenants():
            with log_and_continue("stale marks", tenant, self.memory.ping):
                self.mark.clear_stale_marks(tenant)
        return finished

    def _run(self, state: RemovalState) -> bool:
        """Run a removal to its end; False if it must wait for another process."""
        lease = self.removals.leases.acquire(removal_resource(state.id), self.lease_duration)
        if lease is None:
            return False
        try:
            with self.keep(lease), prometheus_metrics.stage("forget"):
                return self._run_steps(state, lease)
        except (Superseded, DuplicateEntry) as error:
            log.info("removal %s: another process took over: %s", state.id, error)
            return False
        except (InvalidFilter, Unavailable) as error:
            with suppress(Unavailable):
                self.removals.set_waits_for(state.id, error.message)
            raise
        finally:
            self.removals.leases.release(lease)

    def _run_steps(self, state: RemovalState, lease: Lease) -> bool:
        for tries in range(MAX_STEPS):
            state = self.removals.load(state.tenant, state.id)
            match state.step:
                case RemovalStep.MARK:
                    advanced = self._mark(state, lease)
                case RemovalStep.DELETE:
                    advanced = self._delete(state, lease)
                case RemovalStep.SEAL:
                    advanced = self.seal.seal(state, lease, tries)
                case RemovalStep.MIRROR:
                    self.seal.mirror(state, lease)
                    advanced = True
                case RemovalStep.DONE:
                    return True
            if not advanced:
                return False
        return False

    def _mark(self, state: RemovalState, lease: Lease) -> bool:
        self.mark.clauses(state)
        self.removals.leases.renew(lease)
        return self.mark(state.tenant)

    def _delete(self, state: RemovalState, lease: Lease) -> bool:
        if not state.drained:
            return self.remove_from_intake(state.tenant, partial(self.removals.leases.renew, lease))
        for before in self.before_delete:
            before(state.tenant, state.id)
        self._delete_covered(state, lease)
        covered = CoveredImages(partial(self._covered_pages, state, lease), state.removal.filter or EVERYTHING)
        for hook in self.hooks:
            hook(state.tenant, covered)
        remaining = CountRemaining(self.memory, self.mark, self.count_derived)(state, self._covered_pages(state, lease))
        if remaining:
            log.info("removal %s: %d images came in meanwhile and are removed too", state.id, remaining)
            self._mark_again(state, lease)
        else:
            self._set_verified(state, lease)
        return True

    def _delete_covered(self, state: RemovalState, lease: Lease) -> None:
        """Delete the covered points and their pictures; writes progress where that takes long."""
        done, total, written_at = 0, 0, time.monotonic()
        for page in self._covered_pages(state, lease):
            for removal_id, images in groupby(sorted(page, key=_marked_by), _marked_by):
                self.memory.marks.delete(state.tenant, [image.image_id for image in images], removal_id)
            self.pictures.delete([image.picture for image in page])
            done += len(page)
            if time.monotonic() - written_at >= PROGRESS_SECONDS:
                total = total or self.covered.count_all(state.id)
                self.removals.write_progress(lease, state.id, done, total)
                written_at = time.monotonic()

    def _mark_again(self, state: RemovalState, lease: Lease) -> None:
        with self.removals.transaction(lease) as connection:
            values = {"round": state.round + 1, "drained": False}
            self.removals.advance(connection, [state.id], RemovalStep.DELETE, RemovalStep.MARK, **values)

    def _set_verified(self, state: RemovalState, lease: Lease) -> None:
        with self.removals.transaction(lease) as connection:
            counts = self.covered.count(connection, state.id)
            self.removals.advance(
                connection,
                [state.id],
                RemovalStep.DELETE,
                RemovalStep.SEAL,
                waits_for=None,
                verified_at=self.removals.database.moment(connection),
                done=counts.images,
                total=counts.images,
                images=counts.images,
                by_state=counts.by_state,
                pictures=counts.pictures,
                queued=self.remove_from_intake.refused.count(connection, state.id),
            )

    def _covered_pages(self, state: RemovalState, lease: Lease) -> Iterator[list[MarkedImage]]:
        """The covered images in pages; reading one renews the lease."""
        for page in self.covered.pages(state.id):
            self.removals.leases.renew(lease)
            yield page


def _marked_by(image: MarkedImage) -> str:
    return image.marked_by
