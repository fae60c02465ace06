"""Compare a decision that is being stored with the removals that run at the same moment.

A removal notes its images before it deletes their points, and searches for decisions after that. So a transaction that
stores a decision either sees these notes, or commits before the removal's search, which then finds the decision. Where
a removal was done between the query and the transaction, its notes are deleted, and the query must be sent again.
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
"""Steps of removals whose notes are deleted."""
SEARCHING = ("delete", "seal")
"""Steps of removals that may have searched for decisions already."""
Value = TypeVar("Value", str, int)
COVERED = "a running removal covers the query or a value of the filter, so the decision is not stored"


@dataclass(frozen=True)
class RequestStart:
    """The moment before a search: its time, and the last entry of the tenant's receipt log."""

    at: datetime
    entry: int


@dataclass(frozen=True)
class ConcurrentRemovals:
    """The running removals of a tenant."""

    database: Database

    def begin(self, tenant: str) -> RequestStart:
        """The present moment."""
        last = select(func.coalesce(func.max(receipt_log.c.number), 0)).where(receipt_log.c.tenant == tenant)
        with self.database.read() as connection:
            return RequestStart(self.database.moment(connection), connection.execute(last).scalar_one())

    def are_any(self, tenant: str) -> bool:
        """Whether a removal runs."""
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
        unused_value: bool,
    ) -> set[str]:
        """The neighbours of decisions that running removals cover.

        Args:
            connection: of the transaction that stores the decisions.
            tenant: whose decisions they are.
            begun: a moment before their search.
            stored: the decisions, all with the same options.
            mentions: the hashes of what they mention.
            unused_value: whether their filter contains a value that no image has.

        Raises:
            BeingRemoved: a removal covers a query, or a value of the filter.
            Unavailable: since `begun`, a removal was done, or has searched for decisions already.
        """
        self._check_none_done(connection, tenant, begun)
        running = connection.execute(select(removals.c.id, removals.c.filter).where(_running(tenant))).all()
        if not running:
            return set()
        names = named_values(stored[0].options.filter) if stored else set()
        removed_names = {
            name for row in running if row.filter for name in named_values(Filter.model_validate(row.filter))
        }
        if unused_value or names & removed_names:
            raise BeingRemoved(COVERED)
        removal_ids = [row.id for row in running]
        noted = covered_images.c.removal.in_(removal_ids)
        ids = {each.image_id for one in stored for each in one.decision.neighbours}
        covered_ids = _existing(connection, covered_images.c.image_id, noted, ids | names)
        hashes = {each.content_hash for each in stored if each.content_hash is not None}
        contents = _existing(connection, covered_images.c.content_hash, noted, hashes | names)
        all_mentions = {each for one in mentions for each in one}
        vectors = _existing(
            connection, covered_vectors.c.mention, covered_vectors.c.removal.in_(removal_ids), all_mentions
        )
        if contents or vectors or covered_ids & names or any(queried_with(each, covered_ids) for each in stored):
            raise BeingRemoved(COVERED)
        return covered_ids

    def _check_none_done(self, connection: Connection, tenant: str, begun: RequestStart) -> None:
        since = (receipt_log.c.tenant == tenant) & (receipt_log.c.number > begun.entry)
        done = since & receipt_log.c.event.in_((Event.DONE, Event.TENANT_END))
        searching = select(removals.c.id).where(removals.c.tenant == tenant, removals.c.step.in_(SEARCHING))
        requested = since & (receipt_log.c.event == Event.REQUESTED) & receipt_log.c.removal.in_(searching)
        if connection.execute(select(receipt_log.c.number).where(done | requested).limit(1)).first():
            raise Unavailable("a removal was done while the request ran: send it again")


def _running(tenant: str) -> ColumnElement[bool]:
    return (removals.c.tenant == tenant) & removals.c.step.not_in(ENDED)


def _existing(
    connection: Connection, column: ColumnElement[Value], where: ColumnElement[bool], values: AbstractSet[Value]
) -> set[Value]:
    """The values that occur in a column."""
    found: set[Value] = set()
    for batch in batches(values):
        found.update(connection.execute(select(column).where(where, column.in_(batch)).distinct()).scalars())
    return found
