"""The records of removals: the request, the step that comes next, and the receipt. They outlive the collection.

A process that works on a removal owns its lease, and checks it in each transaction: see `RemovalRecords.transaction`.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Connection, Row, Select, insert, literal, not_, select, update

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Erasure, Removal, RemovalRequest, RemovalStatus
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.records.tables import leases, removals

LEASE_PREFIX = "removal:"
LIST = LatestFirst(ListCursors("removals", tuple[Moment, CursorText]), (removals.c.requested_at, removals.c.id))
PUBLIC_FIELDS = Removal.model_fields.keys() - {"requested_by", "status", "stage", "done", "total", "erasure"}


class RemovalStep(StrEnum):
    """The next step of a removal; `services.removal.steps.removal_steps` describes each."""

    MARK = "mark"
    DELETE = "delete"
    SEAL = "seal"
    MIRROR = "mirror"
    DONE = "done"


class RemovalState(BaseModel):
    """A removal, and what is needed to resume it.

    Attributes:
        requester: who requested it.
        round: how often it went back to the step `mark`.
        position: the last id of the tenant's intake at the time of the request; None if it is not known yet.
        drained: whether the removal has processed the intake since it last marked images.
    """

    model_config = ConfigDict(frozen=True)

    removal: Removal
    tenant: str
    requester: Requester
    step: RemovalStep
    round: int
    position: str | None = None
    drained: bool = False

    @property
    def id(self) -> str:
        """The id of the removal."""
        return self.removal.id


class RemovalRecords:
    """The records of every tenant's removals, and the leases of the processes that work on them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.leases = Leases(database)

    def add(
        self,
        connection: Connection,
        tenant: str,
        removal_id: str,
        request: RemovalRequest,
        requester: Requester,
        position: str | None = None,
    ) -> Removal:
        """Record a request, as part of a transaction.

        Args:
            connection: the transaction.
            tenant: the tenant whose images are removed.
            removal_id: the new removal's id.
            request: what to remove.
            requester: who requests it.
            position: the last id of the tenant's intake; None if it is not known yet.
        """
        row = {
            "id": removal_id,
            "tenant": tenant,
            "step": RemovalStep.MARK.value,
            "filter": request.filter.model_dump(mode="json"),
            **request.model_dump(include={"everything", "block", "reason", "erase_now"}),
            "requested_by": requester.name,
            "requested_key": requester.key,
            "requested_at": self.database.moment(connection),
            "intake_position": position,
        }
        connection.execute(insert(removals).values(row))
        return _state(connection.execute(select(removals).where(removals.c.id == removal_id)).one()).removal

    def load(self, tenant: str, removal_id: str) -> RemovalState:
        """Load a removal.

        Raises:
            NotFound: there is no such removal.
        """
        try:
            wanted = str(uuid.UUID(removal_id))  # the id may come from a URL
        except ValueError:
            wanted = ""
        found = self._states(select(removals).where(removals.c.tenant == tenant, removals.c.id == wanted))
        if not found:
            raise NotFound(f"there is no removal {removal_id!r}")
        return found[0]

    def latest(self, tenant: str, asked: PageRequest = FIRST_PAGE) -> Page[Removal]:
        """A page of a tenant's removals, the latest first.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        query = select(removals).where(removals.c.tenant == tenant)
        with self.database.read() as connection:
            return LIST.page(connection, query, asked, lambda row: _state(row).removal)

    def running(
        self,
        tenant: str,
        step: RemovalStep | None = None,
        until: datetime | None = None,
        connection: Connection | None = None,
    ) -> list[RemovalState]:
        """A tenant's removals that are not done, in the order of their requests.

        Args:
            tenant: the tenant.
            step: only removals in this step.
            until: only removals requested by then.
            connection: the transaction to query in; None: one of its own.
        """
        query = select(removals).where(removals.c.tenant == tenant, removals.c.step != RemovalStep.DONE.value)
        if step is not None:
            query = query.where(removals.c.step == step.value)
        if until is not None:
            query = query.where(removals.c.requested_at <= until)
        return self._states(query.order_by(removals.c.requested_at, removals.c.id), connection)

    def undrained_positions(self, tenant: str) -> list[str | None]:
        """The intake positions of a tenant's removals that have not processed its intake; None if not known yet.

        Entries at or before one of them must wait, because the removal decides whether they may be accepted.
        """
        with self.database.read() as connection:
            return [*connection.execute(select(removals.c.intake_position).where(_is_undrained(tenant))).scalars()]

    def undrained(self, tenant: str, connection: Connection | None = None) -> list[RemovalState]:
        """A tenant's removals that have not processed its intake, in the order of their requests."""
        query = select(removals).where(_is_undrained(tenant))
        return self._states(query.order_by(removals.c.requested_at, removals.c.id), connection)

    def set_position(self, connection: Connection, removal_id: str, position: str) -> None:
        """Record a removal's intake position if it has none yet, as part of a transaction."""
        unknown = (removals.c.id == removal_id) & removals.c.intake_position.is_(None)
        connection.execute(update(removals).where(unknown).values(intake_position=position))

    def set_drained(self, connection: Connection, removal_ids: Collection[str]) -> None:
        """Record that removals have processed the intake, as part of a transaction."""
        deleting = removals.c.id.in_([*removal_ids]) & (removals.c.step == RemovalStep.DELETE.value)
        connection.execute(update(removals).where(deleting).values(drained=True, waits_for=None))

    def abandoned(self) -> list[tuple[str, str]]:
        """Tenant and id of the removals that are not done and that no process works on, in the order of requests."""
        with self.database.read() as connection:
            moment = self.database.moment(connection)
            owned = (leases.c.resource == literal(LEASE_PREFIX) + removals.c.id) & (leases.c.until > moment)
            query = select(removals.c.tenant, removals.c.id).where(
                removals.c.step != RemovalStep.DONE.value, not_(select(leases.c.token).where(owned).exists())
            )
            return [(row.tenant, row.id) for row in connection.execute(query.order_by(removals.c.requested_at))]

    def not_running_among(self, removal_ids: Iterable[str]) -> list[str]:
        """Those of some ids that belong to no running removal."""
        given = list(removal_ids)
        query = select(removals.c.id).where(removals.c.id.in_(given), removals.c.step != RemovalStep.DONE.value)
        with self.database.read() as connection:
            running = {*connection.execute(query).scalars()}
        return [each for each in given if each not in running]

    def tenants(self) -> list[str]:
        """The tenants that ever requested a removal."""
        with self.database.read() as connection:
            return [*connection.execute(select(removals.c.tenant).distinct().order_by(removals.c.tenant)).scalars()]

    @contextmanager
    def transaction(self, lease: Lease) -> Iterator[Connection]:
        """Open a transaction for the owner of a lease, and renew the lease in it.

        Raises:
            Superseded: another process owns the lease; nothing was written.
        """
        with self.database.write(urgent=True) as connection:
            self.leases.check(connection, lease)
            yield connection

    def advance(
        self,
        connection: Connection,
        removal_ids: Collection[str],
        step: RemovalStep,
        following: RemovalStep,
        **values: Any,
    ) -> None:
        """Move all of some removals from one step to the next, and set columns, as part of a transaction.

        Raises:
            Superseded: one of them is in another step.
        """
        in_step = removals.c.id.in_([*removal_ids]) & (removals.c.step == step.value)
        moved = connection.execute(update(removals).where(in_step).values(step=following.value, **values))
        if moved.rowcount != len(removal_ids):
            raise Superseded(", ".join(removal_ids))

    def write_progress(self, lease: Lease, removal_id: str, done: int, total: int) -> None:
        """Write how many of the covered images are deleted.

        Raises:
            Superseded: another process owns the lease.
        """
        with self.transaction(lease) as connection:
            connection.execute(update(removals).where(removals.c.id == removal_id).values(done=done, total=total))

    def set_waits_for(self, removal_id: str, reason: str) -> None:
        """Record why a removal makes no progress."""
        with self.database.write(urgent=True) as connection:
            connection.execute(update(removals).where(removals.c.id == removal_id).values(waits_for=reason))

    def find(self, condition: ColumnElement[bool], limit: int) -> list[RemovalState]:
        """The removals whose rows meet a condition, in the order of their ids, at most `limit`."""
        return self._states(select(removals).where(condition).order_by(removals.c.id).limit(limit))

    def _states(self, query: Select[Any], connection: Connection | None = None) -> list[RemovalState]:
        with self.database.read() if connection is None else nullcontext(connection) as open_connection:
            return [_state(row) for row in open_connection.execute(query)]


def removal_resource(removal_id: str) -> str:
    """The name of the lease of the process that works on a removal."""
    return f"{LEASE_PREFIX}{removal_id}"


def _is_undrained(tenant: str) -> ColumnElement[bool]:
    before_seal = removals.c.step.in_([RemovalStep.MARK.value, RemovalStep.DELETE.value])
    return (removals.c.tenant == tenant) & before_seal & ~removals.c.drained


def _state(row: Row[Any]) -> RemovalState:
    requested_by = row.requested_by if row.requested_key is None else f"{row.requested_by} (key {row.requested_key})"
    erasure = None
    if row.erasure_receipt is not None:
        erasure = Erasure(at=row.erased_at, erased=row.erased, note=row.erasure_note)
    is_done = row.step == RemovalStep.DONE
    removal = Removal(
        **{name: getattr(row, name) for name in PUBLIC_FIELDS},
        requested_by=requested_by,
        status=RemovalStatus.DONE if is_done else RemovalStatus.RUNNING,
        stage="" if is_done else row.step,
        done=row.images if is_done else row.done,
        total=row.images if is_done else row.total,
        erasure=erasure,
    )
    return RemovalState(
        removal=removal,
        tenant=row.tenant,
        requester=Requester(name=row.requested_by, key=row.requested_key),
        step=row.step,
        round=row.round,
        position=row.intake_position,
        drained=row.drained,
    )
