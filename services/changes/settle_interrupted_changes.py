"""Settle changes whose process has ended: their images tell by their revisions which of them were changed."""

from dataclasses import dataclass

from visual_memory.schemas.change import Change, ChangeState
from visual_memory.schemas.errors import NotFound
from visual_memory.services.changes.change_records import ChangeRecords, resource_of
from visual_memory.services.memory.memory_facade import Memory

AT_ONCE = 100
"""Unfinished changes that one call looks at."""


@dataclass(frozen=True)
class SettleInterruptedChanges:
    """Called before changes are read or undone; usually there are none to settle."""

    memory: Memory
    records: ChangeRecords

    def __call__(self, tenant: str) -> None:
        """Settle the unfinished changes of a tenant that no process makes any more; others are left alone.

        Raises:
            Unavailable: the memory or the database does not answer.
        """
        for change in self.records.running(tenant, AT_ONCE):
            with self.records.leases.held(resource_of(change.id), self.records.lease_duration) as lease:
                if lease is not None and self._is_running(tenant, change.id):
                    self._settle(tenant, change)

    def _is_running(self, tenant: str, change_id: str) -> bool:
        """Whether it was not finished between the look and the lease."""
        try:
            return self.records.load(tenant, change_id).state is ChangeState.RUNNING
        except NotFound:
            return False

    def _settle(self, tenant: str, change: Change) -> None:
        for rows in self.records.pages(change.id, applied=False):
            stored = self.memory.images.get(tenant, [row.image_id for row in rows])
            changed = {
                row.image_id
                for row in rows
                if (image := stored.get(row.image_id))
                and (image.picture, image.revision) == (row.picture, row.revision)
            }
            with self.records.database.write(urgent=True) as connection:
                self.records.settle(connection, change.id, changed, {row.image_id for row in rows} - changed)
        with self.records.database.write(urgent=True) as connection:
            self.records.interrupt(connection, change)
