"""Tidy: what a crash leaves behind goes after a while.

That is pictures without a point, half-written files, and what a stored decision says of images that were removed while
it was being written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from schemas.filter import Clause, FieldType
from schemas.image import now
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures

AT_ONCE = 500


@dataclass(frozen=True)
class Tidy:
    """The use case, with the parts that it needs.

    Attributes:
        spare: how young a picture is left alone, for its point may be about to be put, or it is still being written.
        further: tidies elsewhere; given the moment before which what was half written is given up, and returning how
            many files were deleted.
    """

    memory: Memory
    pictures: Pictures
    ledger: Ledger
    spare: timedelta
    further: Sequence[Callable[[datetime], int]] = ()

    def __call__(self) -> int:
        """Delete what nothing refers to, and half-written pictures and records; returns how many files that were."""
        old = now() - self.spare
        deleted = self.pictures.delete_drafts(old) + self.ledger.delete_drafts(old)
        deleted += sum(tidy(old) for tidy in self.further)
        for tenant, keys in groupby(self.pictures.all(), key=lambda key: key.split("/")[0]):
            batch = list(keys)
            for start in range(0, len(batch), AT_ONCE):
                deleted += self._tidy(tenant, batch[start : start + AT_ONCE])
        return deleted

    def _tidy(self, tenant: str, keys: list[str]) -> int:
        old = now() - self.spare  # looked at before the points: what is put later is younger
        named = Clause("picture", FieldType.KEYWORD, tuple(keys))
        held, _ = self.memory.page(tenant, [named], len(keys), None)
        orphans = set(keys) - {image.picture for image in held}
        return self.pictures.delete(key for key in sorted(orphans) if self.pictures.written_at(key) < old)
