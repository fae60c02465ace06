"""The digest that identifies a receipt's filter without revealing it.

It is SHA-256 of a salt and of the filter (in NFC) as JSON in UTF-8, with sorted keys and without whitespace. The salt
is HMAC-SHA256 of the removal's id under a key of the service, because filters are short and easy to guess.
"""

import hmac
from hashlib import sha256

from visual_memory.schemas.filter import Filter
from visual_memory.services.receipts.receipt_signature import canonical_json


class FilterDigests:
    """Digests of filters.

    Args:
        key: 32 secret bytes, used for nothing else.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, removal_id: str, condition: Filter) -> str:
        """The digest of a removal's filter, in hexadecimal."""
        salt = hmac.digest(self._key, removal_id.encode(), sha256)
        return sha256(salt + canonical_filter(condition)).hexdigest()


def canonical_filter(condition: Filter) -> bytes:
    """Serialise a filter; equal filters in the same order give equal bytes."""
    return canonical_json(condition.model_dump(mode="json"))
