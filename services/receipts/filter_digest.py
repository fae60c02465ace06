"""The digest by which a receipt knows its filter, and from which nobody learns it.

It is SHA-256 of a salt, then of the filter (in NFC) as JSON with sorted keys and no blanks, in UTF-8. The salt is
HMAC-SHA256 of the removal's id under a key of the service: who guesses filters, which are short, needs that key too.
"""

import hmac
from hashlib import sha256

from visual_memory.schemas.filter import Filter
from visual_memory.services.receipts.receipt_signature import canonical_json


class FilterDigests:
    """Digests of filters.

    Args:
        key: 32 secret bytes, for this purpose alone.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, removal_id: str, condition: Filter) -> str:
        """The digest of a removal's filter, in hex."""
        salt = hmac.digest(self._key, removal_id.encode(), sha256)
        return sha256(salt + canonical_filter(condition)).hexdigest()


def canonical_filter(condition: Filter) -> bytes:
    """A filter as bytes: the same for filters that say the same in the same order."""
    return canonical_json(condition.model_dump(mode="json"))
