"""What must not come back: contents and subjects that a removal refuses from then on.

A block is a record of its own, named by the digest of what it blocks: it is durable before the removal begins, is
seen by every process at once, and survives a restored snapshot of the collection, because it lies outside of it.
"""

from collections.abc import Iterable
from hashlib import sha256

from schemas.errors import Blocked
from schemas.image import StoredImage
from services.memory.ledger import Ledger


class Blocks:
    """The blocked contents and subjects of each tenant."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def block_subjects(self, tenant: str, subjects: Iterable[str], removal_id: str) -> None:
        """Refuse every picture of these subjects from now on."""
        for subject in subjects:
            self._ledger.put(_key(tenant, "subject", subject), {"removal": removal_id})

    def block_contents(self, tenant: str, content_hashes: Iterable[str], removal_id: str) -> None:
        """Refuse every picture with these bytes from now on."""
        for content_hash in content_hashes:
            self._ledger.put(_key(tenant, "content", content_hash), {"removal": removal_id})

    def blocks(self, image: StoredImage) -> bool:
        """Whether this image must not be accepted."""
        return bool(self.among([image]))

    def blocks_content(self, tenant: str, content_hash: str) -> bool:
        """Whether a picture with these bytes must not be accepted, whatever is said of it."""
        return self._ledger.exists(_key(tenant, "content", content_hash))

    def among(self, images: Iterable[StoredImage]) -> list[StoredImage]:
        """Those of some images that must not be accepted, in their order."""
        keys = [(image, _keys(image)) for image in images]
        there = self._ledger.existing({key for _, own in keys for key in own})
        return [image for image, own in keys if not there.isdisjoint(own)]

    def check(self, images: Iterable[StoredImage]) -> None:
        """Refuse blocked images.

        Raises:
            Blocked: the first of them that is blocked; the message names it.
        """
        for image in self.among(images):
            raise Blocked(f"image {image.image_id}: a removal refuses this content or subject from now on")


def _keys(image: StoredImage) -> list[str]:
    """What would block it."""
    of_subject = [] if image.subject is None else [_key(image.tenant, "subject", image.subject)]
    return [_key(image.tenant, "content", image.content_hash), *of_subject]


def _key(tenant: str, kind: str, value: str) -> str:
    return f"blocks/{tenant}/{kind}/{sha256(value.encode()).hexdigest()}"
