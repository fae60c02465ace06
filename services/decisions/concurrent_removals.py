"""What is being stored, held against the removals that run at the same moment.

A removal's notes stand before its points are deleted, and it looks for decisions after that. So whoever stores one sees
the notes, in the transaction that stores it, or is seen by the removal; and where a removal was done between the
question and that transaction, so that its notes are gone, the question is asked again.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, func, select

from visual_memory.schemas.errors import BeingRemoved, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import Event
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.decisions.scrub_decision import queried_with
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import covered_images, covered_vectors, receipt_log, removals
from visual_memory.services.removal.values_named_in_filters import named_values

ENDED = ("mirror", "done")
"""Steps of removals whose notes are gone."""
LOOKING = ("delete", "seal")
"""Steps of removals that may have looked for decisions already."""
Value = TypeVar("Value", str, int)
TAKEN = "a removal takes at this moment what was asked with, or what the filter names: nothing of it is kept"


@dataclass(frozen=True)
class RequestStart:
    """A moment before something is asked: its time, and the last entry of the tenant's receipt log."""

    at: datetime
    entry: int


@dataclass(frozen=True)
class ConcurrentRemovals:
    """The removals of a tenant that run."""

    database: Database

    def begin(self, tenant: str) -> RequestStart:
        """The present moment."""
        last = select(func.coalesce(func.max(receipt_log.c.number), 0)).where(receipt_log.c.tenant == tenant)
        with self.database.read() as connection:
            return RequestStart(self.database.moment(connection), connection.execute(last).scalar_one())

    def are_any(self, tenant: str) -> bool:
        """Whether any runs."""
        with self.database.read() as connection:
            return connection.execute(select(removals.c.id).where(_running(tenant)).limit(1)).first() is not None

    def covered(
        self,
        connection: Connection,
        tenant: str,
        begun: RequestStart,
        stored: Sequence[StoredDecision],
        mentions: Sequence[AbstractSet[int]],
        *,
        unheld: bool,
    ) -> set[str]:
        """The neighbours of decisions that a running removal takes.

        Args:
            connection: of the transaction that stores them.
            tenant: whose they are.
            begun: a moment before they were asked.
            stored: the decisions, of the same options.
            mentions: what they tell of.
            unheld: whether their filter names what no image has.

        Raises:
            BeingRemoved: what was asked with is being removed, or the filter names it.
            Unavailable: a removal was done, or came so far that it does not see them, since they were asked.
        """
        self._check_none_done(connection, tenant, begun)
        running = connection.execute(select(removals.c.id, removals.c.filter).where(_running(tenant))).all()
        if not running:
            return set()
        names = named_values(stored[0].options.filter) if stored else set()
        taken = {name for row in running if row.filter for name in named_values(Filter.model_validate(row.filter))}
        if unheld or names & taken:
            raise BeingRemoved(TAKEN)
        ours = [row.id for row in running]
        noted = covered_images.c.removal.in_(ours)
        ids = {each.image_id for one in stored for each in one.decision.neighbours}
        found = _among(connection, covered_images.c.image_id, noted, ids | names)
        hashes = {each.content_hash for each in stored if each.content_hash is not None}
        asked_with = _among(connection, covered_images.c.content_hash, noted, hashes | names)
        told = {each for some in mentions for each in some}
        vectors = _among(connection, covered_vectors.c.mention, covered_vectors.c.removal.in_(ours), told)
        if asked_with or vectors or found & names or any(queried_with(each, found) for each in stored):
            raise BeingRemoved(TAKEN)
        return found

    def _check_none_done(self, connection: Connection, tenant: str, begun: RequestStart) -> None:
        since = (receipt_log.c.tenant == tenant) & (receipt_log.c.number > begun.entry)
        done = since & receipt_log.c.event.in_((Event.DONE, Event.TENANT_END))
        looking = select(removals.c.id).where(removals.c.tenant == tenant, removals.c.step.in_(LOOKING))
        come = since & (receipt_log.c.event == Event.REQUESTED) & receipt_log.c.removal.in_(looking)
        if connection.execute(select(receipt_log.c.number).where(done | come).limit(1)).first():
            raise Unavailable("a removal was carried out while this was being asked: ask once more")


def _running(tenant: str) -> ColumnElement[bool]:
    return (removals.c.tenant == tenant) & removals.c.step.not_in(ENDED)


def _among(
    connection: Connection, column: ColumnElement[Value], where: ColumnElement[bool], values: AbstractSet[Value]
) -> set[Value]:
    """Those of some values that stand in a column."""
    found: set[Value] = set()
    for some in batches(values):
        found.update(connection.execute(select(column).where(where, column.in_(some)).distinct()).scalars())
    return found
