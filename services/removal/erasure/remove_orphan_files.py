"""Delete the files that crashes leave behind, after a grace period.

These are pictures and pixels without a point, partial files, and what stored decisions say about images that were
removed while the decision was written. Every hour the folders with recent files are searched. All folders are searched
only before a compaction, because that reads the names of all pictures and records.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.clock_check import is_over
from visual_memory.services.infrastructure.storage.picture_store import FileKind, PictureFile, PictureStore
from visual_memory.services.infrastructure.task_queue.periodic_task_last_runs import PeriodicTaskRuns
from visual_memory.services.memory.memory_facade import Memory

BATCH = 500
DUTY = "tidy"
EVERY = timedelta(hours=1)
SEARCH_ALL_AFTER = timedelta(days=30)
"""After a longer pause all folders are searched: that takes less time than searching those of every hour."""


@dataclass
class Orphans:
    """The files without a point that a search found.

    Attributes:
        deleted: how many files were deleted.
        young: tenants with files that are too young to be deleted, and when the oldest of these was written.
        is_complete: whether everything could be searched.
    """

    deleted: int = 0
    is_complete: bool = True
    young: dict[str, datetime] = field(default_factory=dict)

    def add_young(self, tenant: str, written_at: datetime) -> None:
        """Record a file that is too young to be deleted."""
        self.young[tenant] = min(written_at, self.young.get(tenant, written_at))


@dataclass(frozen=True)
class RemoveOrphanFiles:
    """Deletes files without a point, and partial files.

    Attributes:
        task_runs: records when it last ran.
        grace: the age from which a file is deleted. A younger one may be incomplete, or its point not put yet; a
            process that takes longer to accept writes its pictures again (`services.intake.accept_pictures`).
        pixels_kept: how long decoded pixels are kept for the worker.
        others: delete orphans elsewhere. Arguments: partial files from before this moment are deleted; orphans may
            have appeared since this moment, None: at any time. Each returns how many files it deleted.
    """

    memory: Memory
    pictures: PictureStore
    task_runs: PeriodicTaskRuns
    grace: timedelta
    pixels_kept: timedelta = timedelta(hours=1)
    others: Sequence[Callable[[datetime, datetime | None], int]] = ()

    def __call__(self) -> Orphans:
        """Search everywhere, and delete what nothing refers to, and partial files."""
        return self._search_all(now())

    def if_due(self, moment: datetime | None = None) -> int:
        """Once an hour, search the folders written since the last run; the first time, search everywhere.

        Args:
            moment: the present; simulations set it.

        Returns:
            the number of deleted files.
        """
        moment = moment or now()
        if not self.task_runs.is_due(DUTY, EVERY, moment):
            return 0
        with self.task_runs.running(DUTY, moment) as before:
            if before is None or moment - before > SEARCH_ALL_AFTER:
                return self._search_all(moment).deleted
            return self._search_recent(min(before, moment) - EVERY, moment).deleted

    def _search_all(self, moment: datetime) -> Orphans:
        found, old = Orphans(), moment - self.grace
        found.is_complete = self._delete_elsewhere(old, None, found)
        for tenant in self.pictures.tenants():
            is_complete, found.is_complete = found.is_complete, False
            with log_and_continue(DUTY, tenant, self.memory.ping):
                self._delete_in_folders(tenant, self.pictures.folders_of(tenant), moment, found)
                found.is_complete = is_complete
        self.pictures.delete_empty_folders(old)
        return found

    def _search_recent(self, since: datetime, moment: datetime) -> Orphans:
        found = Orphans()
        self._delete_elsewhere(moment - self.grace, since, found)
        for tenant in self.pictures.tenants():
            with log_and_continue(DUTY, tenant, self.memory.ping):
                self._delete_in_folders(tenant, self.pictures.folders(tenant, since, moment), moment, found)
        return found

    def _delete_elsewhere(self, old: datetime, since: datetime | None, found: Orphans) -> bool:
        """Call all `others`; whether all of them succeeded."""
        done = 0
        for other in self.others:
            with log_and_continue(DUTY, _name(other)):
                found.deleted += other(old, since)
                done += 1
        return done == len(self.others)

    def _delete_in_folders(self, tenant: str, folders: Iterable[str], moment: datetime, found: Orphans) -> None:
        for folder in folders:
            files = iter(self.pictures.files(folder))
            while batch := [*islice(files, BATCH)]:
                self._delete_among(tenant, batch, moment, found)

    def _delete_among(self, tenant: str, files: Sequence[PictureFile], moment: datetime, found: Orphans) -> None:
        """Delete those of a few files that no point refers to; `moment` is before the points are read."""
        keys = {file.key for file in files if file.key is not None}
        referred: set[str] = set()
        if keys:
            images, _ = self.memory.images.page(
                tenant, [Clause("picture", FieldType.KEYWORD, tuple(keys))], len(keys), None
            )
            referred = {image.picture for image in images}
        old = []
        for file in files:
            if file.key in referred and file.kind is not FileKind.PIXELS:
                continue
            try:
                written_at = self.pictures.file_written_at(file)
            except NotFound:  # it was deleted meanwhile
                continue
            # the store's clock may be ahead of ours, so a file dated in the near future is young too
            if is_over(written_at, self.pixels_kept if file.key in referred else self.grace, moment, differ=self.grace):
                old.append(file)
            elif file.key not in referred:
                found.add_young(tenant, written_at)
        found.deleted += self.pictures.delete_files(old)


def _name(function: Callable[..., int]) -> str:
    return str(getattr(function, "__qualname__", function))
