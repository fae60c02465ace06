"""Record a request for a removal; `services.removal.steps.removal_steps` then runs it."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import RequestedPayload, Requester
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.removal.covered_image_records import EVERYTHING
from visual_memory.services.removal.intake_contract import IntakeQueue
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.steps.mark_covered_images import MarkCoveredImages

log = logging.getLogger(__name__)


def _no_record(_connection: Connection, _removal_id: str) -> None:
    pass


@dataclass(frozen=True)
class RequestRemoval:
    """Records removals."""

    memory: Memory
    removals: RemovalRecords
    mark: MarkCoveredImages
    intake: IntakeQueue
    receipt_log: ReceiptLog
    filter_digests: FilterDigests

    def __call__(
        self,
        tenant: str,
        request: RemovalRequest,
        requester: Requester,
        record: Callable[[Connection, str], object] = _no_record,
        removal_id: str | None = None,
    ) -> Removal:
        """Record a removal.

        Args:
            tenant: the tenant whose images are removed.
            request: what to remove.
            requester: who requests it.
            record: writes further records in the same transaction, given the removal's id.
            removal_id: a unique id; None: a new one.

        Raises:
            InvalidFilter: the filter names an unknown field, or a value of the wrong type.
        """
        request.filter.clauses(self.memory.metadata)
        removal_id = removal_id or str(uuid.uuid4())
        position = self._intake_position(tenant)
        with self.removals.database.write(urgent=True) as connection:
            removal = self.removals.add(connection, tenant, removal_id, request, requester, position)
            self.mark.block_subjects(connection, tenant, removal)
            record(connection, removal_id)
            payload = RequestedPayload(**request_fields(removal, requester, self.filter_digests))
            self.receipt_log.append(connection, tenant, removal_id, payload)
        return removal

    def _intake_position(self, tenant: str) -> str | None:
        """The intake's last position; None if it does not answer, then the drain step records one."""
        try:
            return self.intake.last_position(tenant)
        except Unavailable as error:
            log.info("a removal has no intake position yet: %s", error)
            return None


def request_fields(removal: Removal, requester: Requester, filter_digests: FilterDigests) -> dict[str, Any]:
    """The fields of a log entry that describe a request."""
    return {
        **removal.model_dump(include={"requested_at", "reason", "block", "everything"}),
        "requested_by": requester,
        "filter_digest": filter_digests.of(removal.id, removal.filter or EVERYTHING),
    }
