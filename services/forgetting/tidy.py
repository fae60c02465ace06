"""Tidy: what a crash leaves behind goes after a while.

That is pictures without a point, half-written files, and what a stored decision says of images that were removed while
it was being written. Every hour it is looked for where something new was written since; everywhere, as for a picture
that was being replaced, only before a compaction, for that reads the names of all pictures and records.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.errors import NotFound
from schemas.filter import Clause, FieldType
from schemas.image import now
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.runtime.duties import isolated
from services.runtime.moments import is_over
from services.runtime.schedule import Schedule

AT_ONCE = 500
DUTY = "tidy"
EVERY = timedelta(hours=1)
LONG = timedelta(days=30)
"""After a longer time all is gone through: that is less than every hour of it."""


@dataclass(frozen=True)
class Tidy:
    """The use case, with the parts that it needs.

    Attributes:
        schedule: when it was done last.
        spare: how young a picture is left alone, for its point may be about to be put, or it is still being written.
        further: tidies elsewhere; given the moment before which what was half written is given up, and that since
            which something may have been left, None: ever. Each returns how many files were deleted.
    """

    memory: Memory
    pictures: Pictures
    ledger: Ledger
    schedule: Schedule
    spare: timedelta
    further: Sequence[Callable[[datetime, datetime | None], int]] = ()

    def __call__(self) -> int:
        """Delete what nothing refers to, and half-written files, wherever they lie; returns how many that were."""
        return self._everywhere(now())

    def if_due(self, moment: datetime | None = None) -> int:
        """The same, once an hour, where something was written since the last time; everywhere the first time.

        Args:
            moment: the present; given by those who simulate it.
        """
        moment = moment or now()
        if not self.schedule.is_due(DUTY, EVERY, moment):
            return 0
        with self.schedule.running(DUTY, moment) as before:
            if before is None or moment - before > LONG:
                return self._everywhere(moment)
            return self._recent(min(before, moment) - self.spare, moment)

    def _everywhere(self, moment: datetime) -> int:
        old = moment - self.spare
        deleted = self.pictures.delete_drafts(old) + self.ledger.delete_drafts(old)
        deleted += self._further(old, None)
        for tenant in self.pictures.tenants():
            with isolated(DUTY, tenant, self.memory.ping):
                deleted += self._delete_orphans(tenant, self.pictures.all(tenant), moment)
        self.pictures.delete_empty_folders(old)
        return deleted

    def _recent(self, since: datetime, moment: datetime) -> int:
        old = moment - self.spare
        deleted = self._further(old, since)
        for tenant in self.pictures.tenants():
            with isolated(DUTY, tenant, self.memory.ping):
                for folder in self.pictures.folders(tenant, since, moment):
                    deleted += self.pictures.delete_drafts(old, folder)
                    deleted += self._delete_orphans(tenant, self.pictures.all(folder), moment)
        return deleted

    def _further(self, old: datetime, since: datetime | None) -> int:
        deleted = 0
        for tidy in self.further:
            with isolated(DUTY, _name(tidy)):
                deleted += tidy(old, since)
        return deleted

    def _delete_orphans(self, tenant: str, keys: Sequence[str], moment: datetime) -> int:
        parts = [keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE)]
        return sum(self._delete_orphans_among(tenant, some, moment) for some in parts)

    def _delete_orphans_among(self, tenant: str, keys: Sequence[str], moment: datetime) -> int:
        """Delete those of a few pictures that no point has; the moment is one before the points are looked at."""
        held, _ = self.memory.page(tenant, [Clause("picture", FieldType.KEYWORD, tuple(keys))], len(keys), None)
        orphans = set(keys) - {image.picture for image in held}
        return self.pictures.delete(key for key in sorted(orphans) if self._is_old(key, moment))

    def _is_old(self, key: str, moment: datetime) -> bool:
        try:  # the clock is that of the store, which may be another's: a picture that is about to get its point is safe
            return is_over(self.pictures.written_at(key), self.spare, moment, differ=self.spare)
        except NotFound:  # somebody deleted it right now
            return False


def _name(tidy: Callable[..., int]) -> str:
    return str(getattr(tidy, "__qualname__", tidy))
