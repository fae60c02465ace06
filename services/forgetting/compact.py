"""Compact: after it the bytes of what was removed are gone from the disk, and every receipt says so."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.image import now
from schemas.removal import Erasure, Event
from services.forgetting.removal_log import RemovalLog
from services.forgetting.removals import Removals
from services.forgetting.tidy import Tidy
from services.memory.engine import Compaction
from services.memory.memory import Memory
from services.runtime.duties import isolated

DUTY = "compaction"
RETRY = timedelta(hours=1)
"""How long after one that came to nothing, for there was no room for it, another is tried."""


@dataclass(frozen=True)
class Compact:
    """The use case, with the parts that it needs.

    Attributes:
        beyond: what outside of the store is left to its operator; empty where nothing is.
        every: how long what was removed may wait for it.
    """

    memory: Memory
    removals: Removals
    removal_log: RemovalLog
    tidy: Tidy
    beyond: str
    every: timedelta

    def __call__(self) -> Compaction:
        """Erase what was removed before the call, and seal that into the receipts.

        Raises:
            OutOfSpace: there is no room for what it takes.
        """
        covered = self.removals.unerased()
        self.tidy()
        done = self.memory.compact()
        result = Compaction(done.erased, " ".join(filter(None, (done.note, self.beyond))))
        for tenant, removal_id in covered:
            with isolated("erasure", removal_id):
                try:
                    self._seal(tenant, removal_id, result)
                except Exception:
                    self.removals.expect_erasure(tenant, removal_id)  # with the next, or this one were due for ever
                    raise
        return result

    def if_due(self, moment: datetime | None = None) -> Compaction | None:
        """The same, where a removal has waited for it long enough; puts right what one that died left.

        Args:
            moment: the present; given by those who simulate it.
        """
        moment = moment or now()
        self.memory.recover()
        rested = self.tidy.schedule.is_due(DUTY, min(self.every, RETRY), moment)
        if not rested or not self.removals.erasure_is_due(self.every, moment):
            return None
        with self.tidy.schedule.running(DUTY, moment):
            return self()

    def _seal(self, tenant: str, removal_id: str, result: Compaction) -> None:
        journal = self.removals.load(tenant, removal_id)
        erasure = Erasure(at=now(), erased=result.erased, note=result.note)
        removal = journal.removal.model_copy(update={"erasure": erasure})
        seal = self.removal_log.append(tenant, Event.ERASED, removal)
        self.removals.save(journal.model_copy(update={"removal": removal.model_copy(update={"seal": seal})}))
        self.removals.erased(tenant, removal_id)
