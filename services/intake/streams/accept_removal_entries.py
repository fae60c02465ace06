"""Record the removals that producers request by a stream: one for each entry, however often it is read."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from visual_memory.schemas.errors import InvalidFilter, NotAnEvent, NotFound, RefusedEvent, Unavailable
from visual_memory.schemas.parse_intake_event import parse_removal
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.access.audit_log import RUNNING, AuditLog
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.removal.steps.removal_steps import RemovalSteps

NAMES = uuid.UUID("6a1f8f1e-6b0a-5c56-9d4e-0f3c8f0f2b77")
"""The UUID namespace of the ids of removals that entries request."""
ACTION = "remove"
"""The action in the audit log."""


@dataclass(frozen=True)
class AcceptRemovalEntries:
    """The use case; a worker carries out the recorded removal within seconds.

    Attributes:
        requester: names the stream of a tenant as the requester: Redis does not tell who sent an entry.
    """

    removal_steps: RemovalSteps
    audit: AuditLog
    requester: Callable[[str], Requester]

    def __call__(self, tenant: str, entry: Entry) -> Ended | None:
        """Record the removal; returns the end of the entry, or None if it must wait because a component is down."""
        try:
            event_id, request = parse_removal(entry.event)
        except NotAnEvent as error:
            return _refused(entry, Status.DEAD, error.message)
        except RefusedEvent as error:
            return _refused(entry, Status.REJECTED, error.message, error.event_id)
        removal_id = removal_id_of(tenant, entry)
        try:
            self._record_once(tenant, removal_id, request)
        except InvalidFilter as error:
            self.audit.write(tenant, self.requester(tenant).name, ACTION, outcome=error.code)
            return _refused(entry, Status.REJECTED, error.message, event_id)
        except Unavailable:
            return None
        return Ended(entry, Result(entry.id, Status.ACCEPTED, event_id, removal=removal_id))

    def _record_once(self, tenant: str, removal_id: str, request: RemovalRequest) -> None:
        """Record a removal, unless it is recorded already."""
        requester = self.requester(tenant)

        def record(connection: Connection, made: str) -> None:
            self.audit.record(connection, tenant, requester.name, ACTION, removal=made, outcome=RUNNING)

        try:
            self.removal_steps.removals.load(tenant, removal_id)
        except NotFound:
            try:
                self.removal_steps.request(tenant, request, requester, record, removal_id)
            except IntegrityError:  # another reader has recorded it
                self.removal_steps.removals.load(tenant, removal_id)


def removal_id_of(tenant: str, entry: Entry) -> str:
    """The id of an entry's removal: includes a digest of the event, because a Redis that lost its data reuses ids."""
    digest = sha256(entry.event).hexdigest()
    return str(uuid.uuid5(NAMES, f"{tenant} {entry.original or entry.id} {digest}"))


def _refused(entry: Entry, status: Status, reason: str, event_id: str = "") -> Ended:
    return Ended(entry, Result(entry.id, status, event_id, reason=reason))
