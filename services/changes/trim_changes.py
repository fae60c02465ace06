"""Delete the records of old changes, which then cannot be undone any more."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select

from visual_memory.schemas.change import ChangeState
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import changed_images, changes

MAX_IMAGES = 2_000_000
"""Images of each tenant whose former fields are kept; the latest change is kept in any case."""
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class TrimChanges:
    """The use case.

    Attributes:
        keep: the number of changes of each tenant that are kept.
        keep_for: how long a change is kept.
        max_images: the number of images of each tenant whose former fields are kept.
    """

    database: Database
    keep: int
    keep_for: timedelta
    max_images: int = MAX_IMAGES

    def __call__(self) -> int:
        """Trim the changes of every tenant; returns the number of deleted changes."""
        with self.database.read() as connection:
            tenants = connection.execute(select(changes.c.tenant).distinct()).scalars().all()
        return sum(self._trim(tenant) for tenant in tenants)

    def _trim(self, tenant: str) -> int:
        with self.database.read() as connection:
            since = self.database.moment(connection) - self.keep_for
            columns = (changes.c.id, changes.c.images, changes.c.made_at, changes.c.state)
            query = select(*columns).where(changes.c.tenant == tenant).order_by(changes.c.id.desc())
            rows = connection.execute(query).all()
        old, images = list[str](), 0
        for number, row in enumerate(rows):
            images += row.images
            too_many = number >= self.keep or (number > 0 and images > self.max_images)
            if (too_many or row.made_at < since) and row.state != ChangeState.RUNNING:
                old.append(row.id)
        for change_id in old:
            self._delete(change_id)
        return len(old)

    def _delete(self, change_id: str) -> None:
        """Delete a change, its images first, so that no transaction is long."""
        of_change = changed_images.c.change == change_id
        while True:
            with self.database.write(urgent=True) as connection:
                some = select(changed_images.c.image_id).where(of_change).limit(ROWS_AT_ONCE)
                ids = connection.execute(some).scalars().all()
                for batch in batches(ids):
                    connection.execute(delete(changed_images).where(of_change, changed_images.c.image_id.in_(batch)))
            if len(ids) < ROWS_AT_ONCE:
                break
        with self.database.write(urgent=True) as connection:
            connection.execute(delete(changes).where(changes.c.id == change_id))
