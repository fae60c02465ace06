"""Retention: limit when images expire, by the longest lifetime of their source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from visual_memory.schemas.errors import Forbidden, InvalidRequest
from visual_memory.schemas.fault import Fault
from visual_memory.schemas.fault_sentences import OUT_OF_RANGE
from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.validation_faults import error_of_faults

EVERY_OTHER = "*"


@dataclass(frozen=True)
class RetentionLimits:
    """The longest lifetimes of images.

    Attributes:
        lifetimes: by source; ``*`` is for all other sources, and for images without one.
    """

    lifetimes: Mapping[str, timedelta]

    def limited(self, image: StoredImage) -> StoredImage:
        """Return the image with the time at which it expires: its own or its source's limit, whichever is first."""
        lifetime = self.lifetimes.get(image.source or EVERY_OTHER, self.lifetimes.get(EVERY_OTHER))
        if lifetime is None:
            return image
        limit = image.accepted_at + lifetime
        return image.model_copy(update={"expires_at": min(image.expires_at or limit, limit)})

    def refuse_earlier(self, stored: StoredImage, changed: StoredImage) -> None:
        """Refuse a change that lets an image expire earlier, also by another source: it deletes without a removal.

        Raises:
            Forbidden: the image would expire earlier.
        """
        before, after = self.limited(stored).expires_at, self.limited(changed).expires_at
        if after is not None and (before is None or after < before):
            raise Forbidden(
                f"image {stored.image_id!r} would expire earlier than before, and so be deleted: that needs a key with"
                " the scope remove too"
            )


def check_expiry(expires_at: datetime | None) -> None:
    """Refuse an expiry time in the past.

    Raises:
        InvalidRequest: it has passed.
    """
    if expires_at is not None and expires_at <= now():
        detail = "that moment has passed; name a later one, or ask for a removal"
        raise error_of_faults(InvalidRequest, [Fault(pointer="/expires_at", code=OUT_OF_RANGE, detail=detail)])
