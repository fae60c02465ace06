"""Removals that producers ask for by a stream: each entry makes one, however often it is read."""

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
from visual_memory.services.infrastructure.redis_streams.stream_entries import Ended, Entry, Result, Status
from visual_memory.services.removal.steps.removal_steps import RemovalSteps

NAMES = uuid.UUID("6a1f8f1e-6b0a-5c56-9d4e-0f3c8f0f2b77")
"""Of the ids of removals that are made of entries."""
ACTION = "remove"
"""As the audit log has it."""


@dataclass(frozen=True)
class AcceptRemovalEntries:
    """Makes a removal of an entry, with the parts that it needs.

    It is carried out as every removal that its API left: by a worker, within seconds.

    Attributes:
        requester: names the stream as who asked, by its tenant: Redis tells nobody who sent an entry.
    """

    forget: RemovalSteps
    audit: AuditLog
    requester: Callable[[str], Requester]

    def __call__(self, tenant: str, entry: Entry) -> Ended | None:
        """The end of an entry, once its removal is recorded; None where it must wait, for a part does not answer."""
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
        """Record a removal, unless that was done."""
        requester = self.requester(tenant)

        def record(connection: Connection, made: str) -> None:
            self.audit.record(connection, tenant, requester.name, ACTION, removal=made, outcome=RUNNING)

        try:
            self.forget.removals.load(tenant, removal_id)
        except NotFound:
            try:
                self.forget.request(tenant, request, requester, record, removal_id)
            except IntegrityError:  # another reader was faster
                self.forget.removals.load(tenant, removal_id)


def removal_id_of(tenant: str, entry: Entry) -> str:
    """The id of the removal that an entry makes: of what it says, too, for a Redis that lost all counts anew."""
    said = sha256(entry.event).hexdigest()
    return str(uuid.uuid5(NAMES, f"{tenant} {entry.original or entry.id} {said}"))


def _refused(entry: Entry, status: Status, reason: str, event_id: str = "") -> Ended:
    return Ended(entry, Result(entry.id, status, event_id, reason=reason))
