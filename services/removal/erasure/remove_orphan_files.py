"""Tidy: what a crash leaves behind goes after a while.

That is pictures and pixels without a point, half-written files, and what a stored decision says of images that were
removed while it was being written. Every hour it is looked for where something new was written since; everywhere, as
for a picture that was being replaced, only before a compaction, for that reads the names of all pictures and records.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import now
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.clock_check import is_over
from visual_memory.services.infrastructure.storage.picture_store import Kind, PictureFile, Pictures
from visual_memory.services.infrastructure.task_queue.periodic_task_runs import PeriodicTaskRuns
from visual_memory.services.memory.memory import Memory

AT_ONCE = 500
DUTY = "tidy"
EVERY = timedelta(hours=1)
LONG = timedelta(days=30)
"""After a longer time all is gone through: that is less than every hour of it."""


@dataclass
class Orphans:
    """What was found without a point.

    Attributes:
        deleted: how many files were deleted.
        left: tenants of whom files were left alone, because they are young, and when the oldest of them was written.
        is_whole: whether everything could be looked at.
    """

    deleted: int = 0
    is_whole: bool = True
    left: dict[str, datetime] = field(default_factory=dict)

    def leave(self, tenant: str, written_at: datetime) -> None:
        """Note that a file was left alone."""
        self.left[tenant] = min(written_at, self.left.get(tenant, written_at))


@dataclass(frozen=True)
class RemoveOrphanFiles:
    """The use case, with the parts that it needs.

    Attributes:
        schedule: when it was done last.
        grace: how young a file is left alone, for its point may be about to be put, or it is still being written.
            Whoever accepts for longer writes its pictures again (`services.intake.accept_pictures`).
        cached: how long pixels are kept for the worker.
        further: tidies elsewhere; given the moment before which what was half written is given up, and that since
            which something may have been left, None: ever. Each returns how many files were deleted.
    """

    memory: Memory
    pictures: Pictures
    schedule: PeriodicTaskRuns
    grace: timedelta
    cached: timedelta = timedelta(hours=1)
    further: Sequence[Callable[[datetime, datetime | None], int]] = ()

    def __call__(self) -> Orphans:
        """Delete what nothing refers to, and half-written files, wherever they lie."""
        return self._everywhere(now())

    def if_due(self, moment: datetime | None = None) -> int:
        """The same, once an hour, where something was written since the last time; everywhere the first time.

        Args:
            moment: the present; given by those who simulate it.

        Returns:
            how many files were deleted.
        """
        moment = moment or now()
        if not self.schedule.is_due(DUTY, EVERY, moment):
            return 0
        with self.schedule.running(DUTY, moment) as before:
            if before is None or moment - before > LONG:
                return self._everywhere(moment).deleted
            return self._recent(min(before, moment) - EVERY, moment).deleted

    def _everywhere(self, moment: datetime) -> Orphans:
        found, old = Orphans(), moment - self.grace
        found.is_whole = self._further(old, None, found)
        for tenant in self.pictures.tenants():
            is_whole, found.is_whole = found.is_whole, False
            with log_and_continue(DUTY, tenant, self.memory.ping):
                self._delete_orphans(tenant, self.pictures.folders_of(tenant), moment, found)
                found.is_whole = is_whole
        self.pictures.delete_empty_folders(old)
        return found

    def _recent(self, since: datetime, moment: datetime) -> Orphans:
        found = Orphans()
        self._further(moment - self.grace, since, found)
        for tenant in self.pictures.tenants():
            with log_and_continue(DUTY, tenant, self.memory.ping):
                self._delete_orphans(tenant, self.pictures.folders(tenant, since, moment), moment, found)
        return found

    def _further(self, old: datetime, since: datetime | None, found: Orphans) -> bool:
        """Whether all others tidied, too."""
        done = 0
        for tidy in self.further:
            with log_and_continue(DUTY, _name(tidy)):
                found.deleted += tidy(old, since)
                done += 1
        return done == len(self.further)

    def _delete_orphans(self, tenant: str, folders: Iterable[str], moment: datetime, found: Orphans) -> None:
        for folder in folders:
            files = iter(self.pictures.files(folder))
            while some := [*islice(files, AT_ONCE)]:
                self._delete_orphans_among(tenant, some, moment, found)

    def _delete_orphans_among(
        self, tenant: str, files: Sequence[PictureFile], moment: datetime, found: Orphans
    ) -> None:
        """Delete those of a few files that no point has; the moment is one before the points are looked at."""
        keys = {file.key for file in files if file.key is not None}
        held: set[str] = set()
        if keys:
            images, _ = self.memory.images.page(
                tenant, [Clause("picture", FieldType.KEYWORD, tuple(keys))], len(keys), None
            )
            held = {image.picture for image in images}
        old = []
        for file in files:
            if file.key in held and file.kind is not Kind.PIXELS:
                continue
            try:
                written_at = self.pictures.file_written_at(file)
            except NotFound:  # somebody deleted it right now
                continue
            # the clock is that of the store, which may be another's: a picture that is about to get its point is safe
            if is_over(written_at, self.cached if file.key in held else self.grace, moment, differ=self.grace):
                old.append(file)
            elif file.key not in held:
                found.leave(tenant, written_at)
        found.deleted += self.pictures.delete_files(old)


def _name(tidy: Callable[..., int]) -> str:
    return str(getattr(tidy, "__qualname__", tidy))
