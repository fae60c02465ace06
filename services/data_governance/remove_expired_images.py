"""Remove expired images, which do not vote any more, by a removal with a receipt."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.steps.removal_steps import RemovalSteps

REQUESTER = Requester(name="retention")


@dataclass(frozen=True)
class RemoveExpiredImages:
    """Removes what has expired.

    Attributes:
        every: removes a tenant's images once one of them expired this long ago, so that one removal covers many.
    """

    memory: Memory
    removals: RemovalRecords
    removal_steps: RemovalSteps
    every: timedelta = timedelta(hours=1)

    def if_due(self, moment: datetime | None = None) -> int:
        """Remove the expired images of every tenant that is due; returns their number.

        Args:
            moment: the present; simulations set it.
        """
        moment, removed = moment or now(), 0
        for tenant in self.memory.images.tenants_with_expired(moment - self.every):
            with log_and_continue("expiry", tenant, self.memory.ping):
                removed += self._remove(tenant, moment)
        return removed

    def _remove(self, tenant: str, moment: datetime) -> int:
        if any(state.requester == REQUESTER for state in self.removals.running(tenant)):
            return 0  # another process runs it, or it is resumed soon
        condition = Filter.model_validate({"expires_at": {"lte": moment.isoformat()}})
        request = RemovalRequest(filter=condition, reason="its time is over")
        recorded = self.removal_steps.request(tenant, request, REQUESTER)
        return self.removal_steps.resume(tenant, recorded.id).images
