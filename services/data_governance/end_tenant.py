"""End a tenant: delete its keys, images, intake streams and records, and issue one receipt.

What proves the end stays: the log of receipts, tombstones and blocks, which are digests, and the records of removals
without their filters.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Requester, TenantEndPayload
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.data_governance.delete_tenant_rows import TenantRows
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.removal.intake_contract import IntakeQueue
from visual_memory.services.removal.steps.removal_steps import RemovalSteps

ROUNDS = 5
PAUSE = 3.0
"""Seconds after which a request that was authenticated before its key was revoked has ended, or its image waits."""


@dataclass(frozen=True)
class EndTenant:
    """Ends tenants.

    Attributes:
        write_to_mirror: as in `services.removal.steps.seal_receipt.SealReceipt`.
        forget_events: deletes a tenant's events; never raises.
        sleep: waits a number of seconds.
    """

    removals: RemovalSteps
    rows: TenantRows
    intake: IntakeQueue
    write_to_mirror: Callable[[str, int], object]
    forget_events: Callable[[str], object]
    sleep: Callable[[float], object] = time.sleep

    def __call__(self, tenant: str, requester: Requester, reason: str) -> LogEntry:
        """End a tenant; returns its receipt, which is the entry of the log.

        It can be repeated if it failed. Files derived from images, such as reports, are deleted by the next erasure,
        which is requested at once.

        Raises:
            Unavailable: images keep coming in, or a component does not answer: repeat it.
        """
        requested_at = now()
        keys = self.rows.revoke_keys(tenant, requester.name)
        self.intake.revoke_producers(tenant)
        images, pictures, queued, by_state = 0, 0, 0, dict[State, int]()
        for _ in range(ROUNDS):
            request = RemovalRequest(everything=True, reason=reason, erase_now=True)
            recorded = self.removals.request(tenant, request, requester)
            done = self.removals.resume(tenant, recorded.id)
            images, pictures, queued = images + done.images, pictures + done.pictures, queued + done.queued
            for state, number in done.by_state.items():
                by_state[state] = by_state.get(state, 0) + number
            self.sleep(PAUSE)
            if not self.removals.memory.images.count(tenant):
                break
        else:
            raise Unavailable(f"images of {tenant} keep coming in: stop what sends them, then end the tenant again")
        self.intake.delete_tenant(tenant)
        self.forget_events(tenant)
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
        entry = self.rows.delete(tenant, str(uuid.uuid4()), payload)
        self.write_to_mirror(tenant, entry.number)
        return entry
