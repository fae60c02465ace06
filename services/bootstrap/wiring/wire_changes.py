"""Wire changes of stored images that can be undone."""

from dataclasses import dataclass
from datetime import timedelta

from visual_memory.services.bootstrap.wiring.wire_removal import Stores
from visual_memory.services.changes.amend_image import AmendImage
from visual_memory.services.changes.change_images import ChangeImages
from visual_memory.services.changes.change_records import ChangeRecords
from visual_memory.services.changes.preview_change import PreviewChange
from visual_memory.services.changes.refuse_blocked import RefuseBlocked
from visual_memory.services.changes.settle_interrupted_changes import SettleInterruptedChanges
from visual_memory.services.changes.undo_change import UndoChange
from visual_memory.services.infrastructure.records.resource_leases import Leases
from visual_memory.services.intake.retention_limits import RetentionLimits
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.settings import Settings


@dataclass(frozen=True)
class Changes:
    """The use cases around changes.

    Attributes:
        change: relabels, mutes, unmutes or amends the images of a request.
        settle: settles interrupted changes; called before changes are listed or shown.
    """

    records: ChangeRecords
    settle: SettleInterruptedChanges
    change: ChangeImages
    preview: PreviewChange
    undo: UndoChange
    amend_image: AmendImage


def wire_changes(
    settings: Settings, memory: Memory, stores: Stores, lease: timedelta, impatient: Memory | None = None
) -> Changes:
    """Wire them.

    Args:
        settings: of the service.
        memory: the images.
        stores: next to the memory.
        lease: how long an unfinished change belongs to the process that makes it.
        impatient: the same memory with a shorter timeout, for changes of one image; None: the same timeout.
    """
    publish, database, retention = stores.publish, stores.removals.database, RetentionLimits(settings.retention)
    records = ChangeRecords(database, stores.tombstones, Leases(database), lease)
    settle = SettleInterruptedChanges(memory, records)
    refuse_blocked = RefuseBlocked(memory, stores.pictures, stores.blocks)
    undo_after_removal = stores.undo_after_removal
    return Changes(
        records=records,
        settle=settle,
        change=ChangeImages(memory, records, stores.judgements, undo_after_removal, refuse_blocked, retention, publish),
        preview=PreviewChange(memory),
        undo=UndoChange(memory, records, settle, refuse_blocked, retention, undo_after_removal, publish),
        amend_image=AmendImage(impatient or memory, records, refuse_blocked, settings.metadata, retention, publish),
    )
