"""Undo a change: give its images back what they had before, as far as nothing else has happened to them since.

An undo is itself a change: undoing it brings back what it took back. What the service did to images because of other
images' votes is not brought back blindly: a mute by wrong votes stays only if the judgement of today deserves it, and a
label conflict only if the label check finds it again. So a removal that took such a thing back is not overruled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from visual_memory.schemas.change import Change, ChangeAction, ChangeState
from visual_memory.schemas.errors import AlreadyUndone, Conflict
from visual_memory.schemas.image import Doubt, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.changes.change_records import ChangedImage, ChangeRecords
from visual_memory.services.changes.plan_actions import NO_DOUBT
from visual_memory.services.changes.record_and_write import PlannedImage, RecordedChange, recorded_change
from visual_memory.services.changes.refuse_blocked import RefuseBlocked
from visual_memory.services.changes.settle_interrupted_changes import SettleInterruptedChanges
from visual_memory.services.curation.undo_after_removal import LABEL_CONFLICTS, UndoAfterRemoval
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.intake.retention_limits import RetentionLimits
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE, STANDING


@dataclass(frozen=True)
class UndoChange:
    """The use case.

    Attributes:
        settle: settles interrupted changes first.
        undo_after_removal: checks what the service did to images because of other images' votes.
        publish: publishes what was done.
    """

    memory: Memory
    records: ChangeRecords
    settle: SettleInterruptedChanges
    refuse_blocked: RefuseBlocked
    retention: RetentionLimits
    undo_after_removal: UndoAfterRemoval
    publish: Publish = publish_nothing

    def __call__(self, tenant: str, change_id: str, by: str, *, may_expire: bool = True) -> Change:
        """Undo a change; votes follow at once. An undo that is interrupted can be sent again, and does the rest.

        Args:
            tenant: whose change.
            change_id: its id.
            by: who undoes it.
            may_expire: whether the caller may make images expire earlier than before.

        Returns:
            the undo, a change itself.

        Raises:
            NotFound: there is no such change.
            AlreadyUndone: it was undone already.
            Conflict: it is still being made.
            Forbidden: an image would expire earlier than before, and the caller may not change that.
        """
        self.settle(tenant)
        change = self.records.load(tenant, change_id)
        if change.state is ChangeState.RUNNING:
            raise Conflict(f"change {change_id!r} is still being made: undo it when it is done")
        if change.undone_at is not None:
            raise AlreadyUndone(f"change {change_id!r} was undone already; to bring it back, undo its undo")
        if not may_expire:
            for rows in self.records.pages(change_id):
                for each in self._planned(tenant, rows):
                    self.retention.refuse_earlier(each.read, each.becomes)
        with recorded_change(
            self.memory, self.records, tenant, ChangeAction.UNDO, by, change_id, publish=self.publish
        ) as running:
            doubts = set[Doubt]()
            for rows in self.records.pages(change_id):
                doubts |= self._undo(running, tenant, rows)
            if Doubt.PRUNED in doubts:
                self.undo_after_removal.review_pruned(tenant)
            running.skipped = max(0, change.images - running.written)
        return self.records.load(tenant, running.change.id)

    def _undo(self, running: RecordedChange, tenant: str, rows: Sequence[ChangedImage]) -> set[Doubt]:
        """Undo the change of some images; the doubts that they have now."""
        planned = self._planned(tenant, rows)
        if not planned:
            return set()
        if rows[0].state is None:
            only_labels = all(set(row.before) == {"labels"} for row in rows)
            running.write(planned, ("labels",) if only_labels else AMENDABLE, self.refuse_blocked)
            return set()
        running.write(planned, STANDING)
        doubted = [image for image in running.after.values() if image.doubt is not None]
        if conflicting := [image for image in doubted if image.doubt in LABEL_CONFLICTS]:
            self.undo_after_removal.check_labels_again(tenant, conflicting)
        return {image.doubt for image in doubted if image.doubt is not None}

    def _planned(self, tenant: str, rows: Sequence[ChangedImage]) -> list[PlannedImage]:
        """What the images become that are as the change left them; the others are left out."""
        stored = self.memory.images.get(tenant, [row.image_id for row in rows])
        as_left = [(row, stored[row.image_id]) for row in rows if _is_as_left(row, stored.get(row.image_id))]
        moment = now()  # the same for all, so that they share a write
        planned = [PlannedImage(image, self._before(row, image, moment)) for row, image in as_left]
        blocked = self.refuse_blocked.blocked_among([each.becomes for each in planned])
        return [
            each
            for each in planned
            if each.differs
            and each.read.image_id not in blocked
            and (not each.becomes.has_expired(moment) or each.read.has_expired(moment))
        ]

    def _before(self, row: ChangedImage, image: StoredImage, moment: datetime) -> StoredImage:
        """An image as it was before the change, with its history and within today's limits of retention."""
        values = StoredImage.model_validate({**image.model_dump(), **row.before})
        former = {name: getattr(values, name) for name in row.before}
        if row.state is not None:
            return image.model_copy(update={**NO_DOUBT, **former})
        changed = image.changed(former, moment)
        return changed if set(former) == {"labels"} else self.retention.limited(changed)


def _is_as_left(row: ChangedImage, image: StoredImage | None) -> bool:
    """Whether an image is as a change left it."""
    return (
        image is not None
        and image.removal is None
        and (image.picture, image.revision) == (row.picture, row.revision)
        and (row.state is None or image.state is row.state)
    )
