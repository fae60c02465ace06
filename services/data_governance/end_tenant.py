"""A tenant's end: its keys, its images, its streams in the intake and its records go, and one receipt says so.

What stays is what proves it: the log of receipts, tombstones and blocks, which are digests, and the records of its
removals without their filters.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.image import State, now
from visual_memory.schemas.receipt import Requester, TenantEndPayload
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.data_governance.delete_tenant_rows import TenantRecords
from visual_memory.services.receipts.receipt_log import LogEntry
from visual_memory.services.removal.removal_steps import RemovalSteps

ROUNDS = 5
SETTLED = 3.0
"""Seconds after which whatever was let in with a key that is revoked has come in, or shows as an image that waits."""


@dataclass(frozen=True)
class EndTenant:
    """The use case, with the parts that it needs.

    Attributes:
        sleep: waits so many seconds.
    """

    forget: RemovalSteps
    records: TenantRecords
    sleep: Callable[[float], object] = time.sleep

    def __call__(self, tenant: str, requester: Requester, reason: str) -> LogEntry:
        """End a tenant; its receipt, which is the entry of the log.

        It may be begun again where it did not come to its end. Files that were made of its images, such as reports, go
        with the next erasure, which is asked for at once.

        Raises:
            Unavailable: images come in again and again, or a part does not answer: do it again.
        """
        requested_at = now()
        keys = self.records.revoke_keys(tenant, requester.name)
        self.forget.drain.intake.close_to_senders(tenant)
        images, pictures, queued, by_state = 0, 0, 0, dict[State, int]()
        for _ in range(ROUNDS):
            request = RemovalRequest(everything=True, reason=reason, erase_now=True)
            recorded = self.forget.request(tenant, request, requester)
            done = self.forget.resume(tenant, recorded.id)
            images, pictures, queued = images + done.images, pictures + done.pictures, queued + done.queued
            for state, number in done.by_state.items():
                by_state[state] = by_state.get(state, 0) + number
            self.sleep(SETTLED)
            if not self.forget.memory.images.count(tenant):
                break
        else:
            raise Unavailable(f"images of {tenant} come in again and again: stop what sends them, then end it again")
        self.forget.drain.intake.end(tenant)
        payload = TenantEndPayload(
            requested_at=requested_at,
            requested_by=requester,
            reason=reason,
            done_at=now(),
            images=images,
            by_state=by_state,
            pictures=pictures,
            queued=queued,
            keys=keys,
            records={},
        )
        entry = self.records.end(tenant, str(uuid.uuid4()), payload)
        self.forget.write_to_mirror(tenant, entry.number)
        return entry
