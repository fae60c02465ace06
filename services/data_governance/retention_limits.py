"""Retention: how long images are kept, and the removal of those whose time is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from visual_memory.schemas.errors import Forbidden, InvalidRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import StoredImage, now
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.memory.memory import Memory
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.steps.removal_steps import RemovalSteps

EVERY_OTHER = "*"
REQUESTER = Requester(name="retention")


@dataclass(frozen=True)
class RetentionLimits:
    """The longest life of images.

    Attributes:
        lifetimes: by source; ``*`` is that of every other source, and of images without one.
    """

    lifetimes: Mapping[str, timedelta]

    def limited(self, image: StoredImage) -> StoredImage:
        """The image with the moment at which it expires: its own or its source's, whichever comes first."""
        lifetime = self.lifetimes.get(image.source or EVERY_OTHER, self.lifetimes.get(EVERY_OTHER))
        if lifetime is None:
            return image
        limit = image.accepted_at + lifetime
        return image.model_copy(update={"expires_at": min(image.expires_at or limit, limit)})

    def refuse_earlier(self, held: StoredImage, changed: StoredImage) -> None:
        """Refuse to let an image expire earlier, be it by another source: it would be deleted without a removal.

        Raises:
            Forbidden: it would.
        """
        before, after = self.limited(held).expires_at, self.limited(changed).expires_at
        if after is not None and (before is None or after < before):
            raise Forbidden(
                f"image {held.image_id!r} would expire earlier than before, and so be deleted: that needs a key with"
                " the scope remove too"
            )


def check_expiry(expires_at: datetime | None) -> None:
    """Refuse a moment that has passed.

    Raises:
        InvalidRequest: it has.
    """
    if expires_at is not None and expires_at <= now():
        raise InvalidRequest("expires_at: that moment has passed; name a later one, or ask for a removal")


@dataclass(frozen=True)
class RemoveExpiredImages:
    """Removes what has expired, which votes no more already: a removal like any other, with a receipt.

    Attributes:
        every: a tenant's is removed when some of it expired so long ago: one removal for all that did meanwhile.
    """

    memory: Memory
    removals: RemovalRecords
    forget: RemovalSteps
    every: timedelta = timedelta(hours=1)

    def if_due(self, moment: datetime | None = None) -> int:
        """Remove it for every tenant whose turn it is; returns how many images that were.

        Args:
            moment: the present; given by those who simulate it.
        """
        moment, removed = moment or now(), 0
        for tenant in self.memory.images.tenants_with_expired(moment - self.every):
            with log_and_continue("expiry", tenant, self.memory.ping):
                removed += self._remove(tenant, moment)
        return removed

    def _remove(self, tenant: str, moment: datetime) -> int:
        if any(state.requester == REQUESTER for state in self.removals.running(tenant)):
            return 0  # another process is at it, or it is resumed soon
        condition = Filter.model_validate({"expires_at": {"lte": moment.isoformat()}})
        request = RemovalRequest(filter=condition, reason="its time is over")
        recorded = self.forget.request(tenant, request, REQUESTER)
        return self.forget.resume(tenant, recorded.id).images
