"""Write changes of images in batches, each recorded before it is written, so that it can be undone after any crash."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from visual_memory.schemas.change import ChangeAction
from visual_memory.schemas.errors import Conflict, Unavailable
from visual_memory.schemas.event import MAX_IMAGES, EventType
from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.changes.change_records import ChangedImage, ChangeRecords, RunningChange
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.records.resource_leases import Superseded
from visual_memory.services.memory.conditional_writes import with_new_revisions
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE, STANDING

RECORDED_OF_STANDING = frozenset({"state", "doubt", "pruned_from"})
"""Not the reason and the ids of objectors: they tell of other images, which a removal may cover."""

MAX_REVISIONS = 10_000
"""Revisions that are remembered, so that images of all batches that were alike stay so, and share one write later."""

Written = Callable[[Sequence[tuple[StoredImage, StoredImage]], dict[str, StoredImage]], object]
"""Called after images were written: with the images as they were read and as they became, and those stored now."""


def nothing_more(_changed: Sequence[tuple[StoredImage, StoredImage]], _after: dict[str, StoredImage]) -> None:
    """The `Written` that does nothing."""


@dataclass(frozen=True)
class PlannedImage:
    """An image as it was read, and what it becomes: it differs in some of the fields that a change may write."""

    read: StoredImage
    becomes: StoredImage

    @property
    def differs(self) -> bool:
        """Whether anything changes."""
        return bool(self.before())

    def before(self) -> dict[str, object]:
        """The fields that change, as they were, as JSON."""
        changed = {
            name
            for name in (*AMENDABLE, *RECORDED_OF_STANDING)
            if getattr(self.read, name) != getattr(self.becomes, name)
        }
        return self.read.model_dump(mode="json", include=changed)


@dataclass
class RecordedChange:
    """A change that is being made.

    Attributes:
        publish: publishes what was done, at the end.
        written: how many images it has changed.
        after: the images that the last write read back, as they are since, by image id.
        skipped: the number of images that were left as they are; set by the use case.
    """

    memory: Memory
    records: ChangeRecords
    change: RunningChange
    publish: Publish = publish_nothing
    written: int = 0
    skipped: int = 0
    after: dict[str, StoredImage] = field(default_factory=dict)
    _revisions: dict[int, int] = field(default_factory=dict)
    _counts: Counter[EventType] = field(default_factory=Counter)
    _ids: dict[EventType, list[str]] = field(default_factory=dict)

    def write(
        self, planned: Sequence[PlannedImage], fields: Sequence[str], after_write: Written = nothing_more
    ) -> list[StoredImage]:
        """Record images, write those that are as they were read, and record which were changed.

        Args:
            planned: images that differ, each id once; at most as many as one engine operation takes.
            fields: `AMENDABLE`, ``("labels",)`` or `STANDING`: what is written.
            after_write: called between the write and its record; an error leaves the images unsettled.

        Returns:
            the planned images that exist and were not changed, as they are now: others changed them.

        Raises:
            Conflict: this process was suspended for long, and another one has ended the change.
        """
        if len(self._revisions) > MAX_REVISIONS:
            self._revisions.clear()
        pairs = with_new_revisions([(each.read, each.becomes) for each in planned], self._revisions)
        rows = [_row(each, becomes, fields) for each, (_, becomes) in zip(planned, pairs, strict=True)]
        try:
            recorded = self.records.add(self.change, rows)
        except Superseded:
            raise Conflict("this took too long, and was ended after a part: look at GET /v1/changes") from None
        pairs = [pair for pair in pairs if pair[0].image_id in recorded]
        if not pairs:
            return []
        self.after = after = self.memory.writes.change(pairs, fields)
        changed = {image.image_id for image, becomes in pairs if is_stored(becomes, after.get(image.image_id))}
        after_write([pair for pair in pairs if pair[0].image_id in changed], after)
        with self.records.database.write(urgent=True) as connection:
            self.records.settle(connection, self.change.id, changed, recorded - changed)
        self.written += len(changed)
        for _, becomes in pairs:
            if becomes.image_id in changed:
                self._count(_event(becomes, fields), becomes.image_id)
        return [after[image_id] for image_id in sorted(recorded - changed) if image_id in after]

    def publish_events(self) -> None:
        """Publish what was done so far."""
        for event, number in self._counts.items():
            ids = self._ids[event] if number <= MAX_IMAGES else ()
            self.publish(self.change.tenant, event, ids, count=number, change_id=self.change.id)

    def _count(self, event: EventType, image_id: str) -> None:
        self._counts[event] += 1
        if self._counts[event] <= MAX_IMAGES:
            self._ids.setdefault(event, []).append(image_id)


@contextmanager
def recorded_change(
    memory: Memory,
    records: ChangeRecords,
    tenant: str,
    action: ChangeAction,
    by: str,
    undoes: str | None = None,
    publish: Publish = publish_nothing,
) -> Iterator[RecordedChange]:
    """Record a change while the block makes it; an error leaves it to be settled by whoever reads it next.

    Args:
        memory: the images.
        records: of changes.
        tenant: whose images change.
        action: what is done.
        by: who does it.
        undoes: the id of the change that it takes back.
        publish: publishes what was done.

    Raises:
        AlreadyUndone: that change was taken back already.
    """
    running = RecordedChange(memory, records, records.begin(tenant, action, by, undoes), publish)
    with records.leases.kept_alive(running.change.lease):
        try:
            yield running
        except BaseException:
            with suppress(Unavailable):
                records.leases.release(running.change.lease)
            raise
        finally:
            running.publish_events()
    records.finish(running.change, running.skipped)


def is_stored(changed: StoredImage, after: StoredImage | None) -> bool:
    """Whether this change is the last one of the image."""
    return after is not None and (after.picture, after.revision) == (changed.picture, changed.revision)


def _row(planned: PlannedImage, becomes: StoredImage, fields: Sequence[str]) -> ChangedImage:
    image, state = planned.read, becomes.state if fields == STANDING else None
    return ChangedImage(image.image_id, image.picture, planned.before(), state, becomes.revision)


def _event(becomes: StoredImage, fields: Sequence[str]) -> EventType:
    """The event that tells of a written image."""
    if fields == STANDING:
        return EventType.MUTED if becomes.state is State.MUTED else EventType.UNMUTED
    return EventType.AMENDED if fields == AMENDABLE else EventType.RELABELLED
