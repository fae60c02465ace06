"""The records of removals: what is asked, how far it is, and which receipt was given; they outlive the collection.

Whoever works on one owns its lease, and each transaction compares it: see `RemovalRecords.owned`.
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
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Erasure, Removal, RemovalRequest, RemovalStatus
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.resource_leases import Lease, Leases, Superseded
from visual_memory.services.infrastructure.records.tables import leases, removals

OWNED = "removal:"
SHOWN = Removal.model_fields.keys() - {"requested_by", "status", "erasure"}


class RemovalStep(StrEnum):
    """What comes next; `services.removal.removal_steps` says what each is."""

    MARK = "mark"
    DELETE = "delete"
    SEAL = "seal"
    MIRROR = "mirror"
    DONE = "done"


class RemovalState(BaseModel):
    """A removal with what is needed to go on with it.

    Attributes:
        requester: who asked.
        round: how often it had to mark anew.
        position: the last id of the tenant's intake when it was asked for; None: not noted yet.
        drained: whether it has gone through the intake since it marked last.
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
        """Of the removal."""
        return self.removal.id


class RemovalRecords:
    """The records of every tenant's removals, and who works on them."""

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
        """Record what is asked for, as part of a transaction.

        Args:
            connection: of the transaction.
            tenant: whose images.
            removal_id: its id.
            request: what to remove.
            requester: who asks.
            position: the last id of the tenant's intake; None: not known yet.
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
        """How far a removal is.

        Raises:
            NotFound: there is no such removal.
        """
        try:
            wanted = str(uuid.UUID(removal_id))  # it comes from a URL
        except ValueError:
            wanted = ""
        found = self._states(select(removals).where(removals.c.tenant == tenant, removals.c.id == wanted))
        if not found:
            raise NotFound(f"there is no removal {removal_id!r}")
        return found[0]

    def latest(self, tenant: str, limit: int, before: datetime | None = None) -> list[Removal]:
        """So many of a tenant's removals at most, the latest first; only those that were asked for before a moment."""
        asked = select(removals).where(removals.c.tenant == tenant).order_by(removals.c.requested_at.desc())
        if before is not None:
            asked = asked.where(removals.c.requested_at < before)
        return [each.removal for each in self._states(asked.limit(limit))]

    def running(
        self,
        tenant: str,
        step: RemovalStep | None = None,
        until: datetime | None = None,
        connection: Connection | None = None,
    ) -> list[RemovalState]:
        """A tenant's removals that are not done, the first first.

        Args:
            tenant: whose.
            step: only those in this one.
            until: only those that were asked for by then.
            connection: of a transaction that it is asked in.
        """
        asked = select(removals).where(removals.c.tenant == tenant, removals.c.step != RemovalStep.DONE.value)
        if step is not None:
            asked = asked.where(removals.c.step == step.value)
        if until is not None:
            asked = asked.where(removals.c.requested_at <= until)
        return self._states(asked.order_by(removals.c.requested_at, removals.c.id), connection)

    def undrained(self, tenant: str) -> list[str | None]:
        """The positions of a tenant's removals that have not gone through its intake yet; None: not noted yet.

        What lies there at one of them or before it is older, and must wait: nobody knows whether it may be accepted.
        """
        with self.database.read() as connection:
            return [*connection.execute(select(removals.c.intake_position).where(_undrained(tenant))).scalars()]

    def to_drain(self, tenant: str, connection: Connection | None = None) -> list[RemovalState]:
        """The removals of a tenant that have not gone through its intake yet, the first first."""
        asked = select(removals).where(_undrained(tenant))
        return self._states(asked.order_by(removals.c.requested_at, removals.c.id), connection)

    def note_position(self, connection: Connection, removal_id: str, position: str) -> None:
        """Write down where the intake ends for a removal of which that was not known, as part of a transaction."""
        unknown = (removals.c.id == removal_id) & removals.c.intake_position.is_(None)
        connection.execute(update(removals).where(unknown).values(intake_position=position))

    def say_drained(self, connection: Connection, removal_ids: Collection[str]) -> None:
        """Write down that removals have gone through the intake, as part of a transaction."""
        there = removals.c.id.in_([*removal_ids]) & (removals.c.step == RemovalStep.DELETE.value)
        connection.execute(update(removals).where(there).values(drained=True, waits_for=None))

    def abandoned(self) -> list[tuple[str, str]]:
        """The removals that are not done and that nobody works on: tenant and id of each, the first first."""
        with self.database.read() as connection:
            moment = self.database.moment(connection)
            owned = (leases.c.resource == literal(OWNED) + removals.c.id) & (leases.c.until > moment)
            asked = select(removals.c.tenant, removals.c.id).where(
                removals.c.step != RemovalStep.DONE.value, not_(select(leases.c.token).where(owned).exists())
            )
            return [(row.tenant, row.id) for row in connection.execute(asked.order_by(removals.c.requested_at))]

    def done_among(self, removal_ids: Iterable[str]) -> list[str]:
        """Those of some ids of which no removal runs."""
        given = list(removal_ids)
        asked = select(removals.c.id).where(removals.c.id.in_(given), removals.c.step != RemovalStep.DONE.value)
        with self.database.read() as connection:
            running = {*connection.execute(asked).scalars()}
        return [each for each in given if each not in running]

    def tenants(self) -> list[str]:
        """Everybody who ever asked for one."""
        with self.database.read() as connection:
            return [*connection.execute(select(removals.c.tenant).distinct().order_by(removals.c.tenant)).scalars()]

    @contextmanager
    def owned(self, lease: Lease) -> Iterator[Connection]:
        """One transaction of the owner of a lease, which is prolonged by it.

        Raises:
            Superseded: another owns it by now; nothing was written.
        """
        with self.database.write(urgent=True) as connection:
            self.leases.check(connection, lease)
            yield connection

    def move(
        self,
        connection: Connection,
        removal_ids: Collection[str],
        step: RemovalStep,
        following: RemovalStep,
        **values: Any,
    ) -> None:
        """Let removals go on from one step to the next, all or none, and write down what is known by then.

        Raises:
            Superseded: one of them is in another step.
        """
        there = removals.c.id.in_([*removal_ids]) & (removals.c.step == step.value)
        moved = connection.execute(update(removals).where(there).values(step=following.value, **values))
        if moved.rowcount != len(removal_ids):
            raise Superseded(", ".join(removal_ids))

    def say_waiting(self, removal_id: str, why: str) -> None:
        """Show why a removal does not go on."""
        with self.database.write(urgent=True) as connection:
            connection.execute(update(removals).where(removals.c.id == removal_id).values(waits_for=why))

    def found(self, condition: ColumnElement[bool], limit: int) -> list[RemovalState]:
        """Removals that meet a condition on their rows, in the order of their ids."""
        return self._states(select(removals).where(condition).order_by(removals.c.id).limit(limit))

    def _states(self, asked: Select[Any], connection: Connection | None = None) -> list[RemovalState]:
        with self.database.read() if connection is None else nullcontext(connection) as open_connection:
            return [_state(row) for row in open_connection.execute(asked)]


def _undrained(tenant: str) -> ColumnElement[bool]:
    before = removals.c.step.in_([RemovalStep.MARK.value, RemovalStep.DELETE.value])
    return (removals.c.tenant == tenant) & before & ~removals.c.drained


def removal_resource(removal_id: str) -> str:
    """What the lease of whoever works on a removal is about."""
    return f"{OWNED}{removal_id}"


def _state(row: Row[Any]) -> RemovalState:
    asked_by = row.requested_by if row.requested_key is None else f"{row.requested_by} (key {row.requested_key})"
    erasure = None
    if row.erasure_receipt is not None:
        erasure = Erasure(at=row.erased_at, erased=row.erased, note=row.erasure_note)
    removal = Removal(
        **{name: getattr(row, name) for name in SHOWN},
        requested_by=asked_by,
        status=RemovalStatus.DONE if row.step == RemovalStep.DONE else RemovalStatus.RUNNING,
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
