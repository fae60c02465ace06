"""The records of changes: what images were before, written before the images change.

    begin    the change is recorded as running, and belongs to its process by a lease
    add      the former fields of some images, the picture that they have, and the revision that they will get
    settle   after these images were written: which of them were changed; the rows of the others are deleted
    finish   the change is done

After a crash, the images of rows that were not settled tell by their revision whether they were changed; see
`services.changes.settle_interrupted_changes`. A removal deletes the rows of the images that it covers. It leaves
tombstones of their pictures before it does, so a row that would be added later is left out; see
`services.changes.remove_from_changes`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from visual_memory.schemas.change import Change, ChangeAction, ChangeState
from visual_memory.schemas.errors import AlreadyUndone, NotFound
from visual_memory.schemas.image import State
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.services.changes.change_mentions import mentions_of
from visual_memory.services.changes.time_ordered_id import time_ordered_id
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases
from visual_memory.services.infrastructure.records.tables import change_mentions, changed_images, changes
from visual_memory.services.removal.tombstones import Tombstones

LIST = LatestFirst(ListCursors("changes", tuple[CursorText]), (changes.c.id,))
PAGE = 1000
"""Images whose rows are read at once."""


@dataclass(frozen=True)
class ChangedImage:
    """What is recorded of an image that is changed.

    Attributes:
        picture: the key of its picture: a later one under the same id is another image.
        before: the changed fields as they were, as JSON.
        state: the state that the change gives it; None: it changes labels or fields.
        revision: of the image after the change.
    """

    image_id: str
    picture: str
    before: dict[str, Any]
    state: State | None
    revision: int


@dataclass(frozen=True)
class RunningChange:
    """A change that this process makes."""

    tenant: str
    id: str
    lease: Lease


@dataclass(frozen=True)
class ChangeRecords:
    """The changes of every tenant.

    Attributes:
        lease_duration: how long an unfinished change belongs to the process that makes it.
    """

    database: Database
    tombstones: Tombstones
    leases: Leases
    lease_duration: timedelta

    def begin(self, tenant: str, action: ChangeAction, by: str, undoes: str | None = None) -> RunningChange:
        """Record a new change without images.

        Args:
            tenant: whose images change.
            action: what is done.
            by: who does it.
            undoes: the id of the change that it takes back.

        Raises:
            AlreadyUndone: that change was taken back already.
        """
        change_id = time_ordered_id()
        with self.database.write() as connection:
            moment = self.database.moment(connection)
            if undoes is not None:
                undone = update(changes).where(_is(tenant, undoes), changes.c.undone_at.is_(None))
                if connection.execute(undone.values(undone_at=moment, undone_by=by)).rowcount != 1:
                    raise AlreadyUndone(f"change {undoes!r} was undone already; to bring it back, undo its undo")
            lease = self.leases.acquire_within(connection, resource_of(change_id), self.lease_duration)
            assert lease is not None, "its id is new"
            row: dict[str, Any] = {
                "id": change_id,
                "tenant": tenant,
                "action": action.value,
                "state": ChangeState.RUNNING.value,
            }
            row |= {"requested_by": by, "images": 0, "skipped": 0, "undoes": undoes}
            connection.execute(insert(changes).values(**row, made_at=moment))
        return RunningChange(tenant, change_id, lease)

    def add(self, change: RunningChange, images: Sequence[ChangedImage]) -> set[str]:
        """Record images before they are written; durable when it returns.

        Returns:
            the ids of the recorded images: without those that a removal covers.

        Raises:
            Superseded: another process has settled the change, because this one was suspended.
        """
        with self.database.write() as connection:
            self.database.serial(connection, changes_lock(change.tenant), shared=True)
            self.leases.check(connection, change.lease)
            pictures = [image.picture for image in images]
            covered = self.tombstones.covered_among(connection, change.tenant, pictures)
            kept = [image for image in images if image.picture not in covered]
            if kept:
                self._insert(connection, change, kept)
        return {image.image_id for image in kept}

    def settle(self, connection: Connection, change_id: str, changed: Collection[str], others: Collection[str]) -> None:
        """Record which of the added images were changed, as part of a transaction; forget the others.

        Args:
            connection: the transaction.
            change_id: the change.
            changed: the ids of the images that were changed.
            others: the ids of all other added images that are not settled yet.
        """
        for batch in batches(changed):
            connection.execute(update(changed_images).where(_rows_of(change_id, batch)).values(applied=True))
        for batch in batches(others):
            connection.execute(delete(changed_images).where(_rows_of(change_id, batch)))
        more = update(changes).where(changes.c.id == change_id)
        connection.execute(more.values(images=changes.c.images + len(changed)))

    def finish(self, change: RunningChange, skipped: int) -> None:
        """Record that a change is complete, and how many images it skipped."""
        with self.database.write(urgent=True) as connection:
            ended = update(changes).where(changes.c.id == change.id)
            connection.execute(ended.values(state=ChangeState.DONE.value, skipped=skipped))
            self.leases.release_within(connection, change.lease)

    def interrupt(self, connection: Connection, change: Change) -> None:
        """Record that a change ended early, as part of a transaction; what it took back may be undone again.

        A change of no image is deleted.
        """
        if change.undoes is not None:
            undone = update(changes).where(changes.c.id == change.undoes)
            connection.execute(undone.values(undone_at=None, undone_by=None))
        this = changes.c.id == change.id
        connection.execute(delete(changes).where(this, changes.c.images == 0))
        connection.execute(update(changes).where(this).values(state=ChangeState.INTERRUPTED.value))

    def load(self, tenant: str, change_id: str) -> Change:
        """A change.

        Raises:
            NotFound: there is none of this id, or it was deleted because of its age.
        """
        with self.database.read() as connection:
            row = connection.execute(select(changes).where(_is(tenant, change_id))).first()
        if row is None:
            raise NotFound(f"there is no change {change_id!r}")
        return _to_change(row)

    def page(self, tenant: str, asked: PageRequest = FIRST_PAGE) -> Page[Change]:
        """A page of the changes, the latest first.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        with self.database.read() as connection:
            return LIST.page(connection, select(changes).where(changes.c.tenant == tenant), asked, _to_change)

    def running(self, tenant: str, limit: int) -> list[Change]:
        """Changes that are not finished, the oldest first."""
        running = (changes.c.tenant == tenant) & (changes.c.state == ChangeState.RUNNING.value)
        with self.database.read() as connection:
            query = select(changes).where(running).order_by(changes.c.id).limit(limit)
            return [_to_change(row) for row in connection.execute(query)]

    def pages(self, change_id: str, *, applied: bool = True) -> Iterator[list[ChangedImage]]:
        """The images of a change in pages: those that were changed, or those that are not settled."""
        last = ""
        while True:
            which = (changed_images.c.change == change_id) & changed_images.c.applied.is_(applied)
            query = select(changed_images).where(which, changed_images.c.image_id > last)
            with self.database.read() as connection:
                rows = connection.execute(query.order_by(changed_images.c.image_id).limit(PAGE)).all()
            if rows:
                yield [_to_changed_image(row) for row in rows]
                last = rows[-1].image_id
            if len(rows) < PAGE:
                return

    def _insert(self, connection: Connection, change: RunningChange, images: Sequence[ChangedImage]) -> None:
        rows = [
            {
                "change": change.id,
                "tenant": change.tenant,
                "image_id": image.image_id,
                "picture": image.picture,
                "before": image.before,
                "state": None if image.state is None else image.state.value,
                "revision": image.revision,
                "applied": False,
            }
            for image in images
        ]
        connection.execute(insert(changed_images), rows)
        mentions = [
            {"mention": mention, "change": change.id, "image_id": image.image_id}
            for image in images
            for mention in mentions_of(change.tenant, image.before)
        ]
        if mentions:
            connection.execute(insert(change_mentions), mentions)


def resource_of(change_id: str) -> str:
    """The name of the lease of a change."""
    return f"change:{change_id}"


def changes_lock(tenant: str) -> str:
    """The name of the lock that transactions adding images share, and that a removal takes alone."""
    return f"changes:{tenant}"


def _is(tenant: str, change_id: str) -> ColumnElement[bool]:
    return (changes.c.tenant == tenant) & (changes.c.id == change_id)


def _rows_of(change_id: str, image_ids: Collection[str]) -> ColumnElement[bool]:
    return (changed_images.c.change == change_id) & changed_images.c.image_id.in_(image_ids)


def _to_change(row: Row[Any]) -> Change:
    return Change.model_validate({**row._asdict(), "by": row.requested_by})


def _to_changed_image(row: Row[Any]) -> ChangedImage:
    state = None if row.state is None else State(row.state)
    return ChangedImage(row.image_id, row.picture, row.before, state, row.revision)
